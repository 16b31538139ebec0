// What is remembered besides conversations: in this browser, or where keepPreferencesIn says.
const KEY = "llama-bridge.preferences";

function read() {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? {};
  } catch {
    return {}; // switched off, or not ours
  }
}

function write(values) {
  try {
    localStorage.setItem(KEY, JSON.stringify(values));
  } catch {} // then a reload forgets
}

let keep = write;

export const preferences = { language: "", model: "", costs: false, last: null, otherServer: "", ...read() };

export function savePreferences() {
  keep(preferences);
}

/** From now on they are elsewhere. shelf: {preferences(), keepPreferences(values)}. */
export async function keepPreferencesIn(shelf) {
  keep = (values) => shelf.keepPreferences(values);
  Object.assign(preferences, await shelf.preferences());
}
