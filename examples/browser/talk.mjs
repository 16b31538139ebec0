// What was said, and with which model: kept in this browser and nowhere else. A tab keeps its own over a reload; a new tab
// begins with what was said last.
const KEY = "llama-bridge.talk";
const MOST = 1e6; // characters; browsers keep some five million for all pages of a server

const isMessage = (it) => ["user", "assistant"].includes(it?.role) && typeof it.content === "string";

function read() {
  try {
    const found = JSON.parse(sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY));
    if (found?.messages?.every(isMessage)) return found;
  } catch {} // switched off, or not ours
  return {};
}

// messages: {role, content}, answers also {cost, end}; draft: typed and not sent; model: {name, using} or null
export const talk = { messages: [], draft: "", model: null, costs: false, ...read() };

export function keep(changes = {}) {
  const kept = { ...talk, ...changes };
  let text = JSON.stringify(kept);
  while (text.length > MOST && kept.messages.length) {
    kept.messages = kept.messages.slice(2); // the oldest turn
    text = JSON.stringify(kept);
  }
  try {
    for (const storage of [sessionStorage, localStorage]) storage.setItem(KEY, text);
  } catch {} // no room, or switched off: then a reload forgets
}
