// A conversation: a tree of messages, of which one path is shown. To edit or to ask again adds a branch; nothing is
// overwritten. Two tabs that change the same conversation both keep what they added. draft and draftFiles are not sent yet.
//
// message: {id, parent, role, text, created}; a question also {files: [{name, text}]}; an answer also
// {reasoning, calls, model, state, usage, trouble, ref}. state: "writing", "done", "cut", "stopped" or "failed".
// ref is the host's name for the answer, whose KV cache it may still have.

export function newId(letter) {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return letter + Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function newTalk(fields = {}) {
  const now = Date.now();
  const empty = { title: "", model: "", system: "", sampling: {}, messages: {}, gone: [], leaf: null, draft: "", draftFiles: [] };
  return { id: newId("t"), created: now, changed: now, ...empty, ...fields };
}

/** The messages from the first to `leaf`. */
export function pathTo(talk, leaf = talk.leaf) {
  const found = [];
  for (let one = talk.messages[leaf]; one; one = talk.messages[one.parent]) found.push(one);
  return found.reverse();
}

export function childrenOf(talk, parent) {
  const found = Object.values(talk.messages).filter((message) => message.parent === parent);
  return found.sort((a, b) => a.created - b.created);
}

export function addMessage(talk, parent, fields) {
  const message = { id: newId("m"), parent, created: Date.now(), ...fields };
  talk.messages[message.id] = message;
  talk.leaf = message.id;
  talk.changed = message.created;
  if (!talk.title && fields.role === "user") talk.title = titleOf(fields);
  return message;
}

function titleOf({ text, files }) {
  const line = text.trim().split("\n", 1)[0] || files?.[0]?.name || "";
  const letters = Array.from(line.slice(0, 200)); // no half of one
  return letters.length > 60 ? `${letters.slice(0, 59).join("").trimEnd()}…` : line;
}

/** Show the branch that begins with `id`, and of it what is newest. */
export function showBranch(talk, id) {
  talk.leaf = id;
  for (let next; (next = childrenOf(talk, talk.leaf).at(-1)); ) talk.leaf = next.id;
}

/** Remove a message and all after it; returns them. */
export function removeBranch(talk, id) {
  const { parent } = talk.messages[id];
  const removed = [];
  const rest = [id];
  while (rest.length) {
    const next = rest.pop();
    for (const child of childrenOf(talk, next)) rest.push(child.id);
    removed.push(talk.messages[next]);
    delete talk.messages[next];
    talk.gone.push(next);
  }
  const beside = childrenOf(talk, parent).at(-1);
  if (beside) showBranch(talk, beside.id);
  else talk.leaf = parent;
  talk.changed = Date.now();
  return removed;
}

/** Bring back what was removed, and show `leaf` again. They get new names: the old ones are gone for every tab. */
export function bringBack(talk, removed, leaf) {
  const names = new Map(removed.map(({ id }) => [id, newId("m")]));
  for (const one of removed) {
    const id = names.get(one.id);
    talk.messages[id] = { ...one, id, parent: names.get(one.parent) ?? one.parent };
  }
  talk.leaf = names.get(leaf) ?? talk.leaf;
  talk.changed = Date.now();
}

/** A conversation that somebody has saved with its KV cache: messages in their order, of which the last goes on from `ref`. */
export function talkOf({ model, system, messages, ref }) {
  const talk = newTalk({ model, system });
  for (const fields of messages) addMessage(talk, talk.leaf, fields.role === "assistant" ? { ...fields, model } : fields);
  Object.values(talk.messages).forEach((message, i) => (message.created += i)); // an order of their own
  if (talk.leaf) talk.messages[talk.leaf].ref = ref;
  return talk;
}

/** The message after which the next question comes. One that has no answer gives way to it, and stays as another version. */
export function nextParent(talk) {
  const last = talk.messages[talk.leaf];
  const unanswered = last?.role === "assistant" && !last.text && !last.calls?.length;
  return unanswered ? talk.messages[last.parent].parent : talk.leaf;
}

/** A new conversation with what was said up to a message. */
export function forkAt(talk, id) {
  const { model, system, sampling } = talk;
  const forked = newTalk({ title: talk.title, model, system, sampling: { ...sampling }, leaf: id });
  for (const message of pathTo(talk, id)) forked.messages[message.id] = { ...message };
  return forked;
}

const isOver = ({ state }) => state !== "writing" && state !== "interrupted";
const sizeOf = ({ text, reasoning = "" }) => text.length + reasoning.length;

/** Whether another tab's copy of a message says more: this one may have seen only its beginning. */
function isFurther(theirs, mine) {
  if (isOver(theirs) !== isOver(mine)) return isOver(theirs);
  return !isOver(mine) && sizeOf(theirs) > sizeOf(mine);
}

/** `talk` with what `kept` has and it lacks. What was removed is gone, unless somebody has gone on from it. */
export function merge(talk, kept) {
  const theirs = keptTalk(kept);
  const gone = new Set([...theirs.gone, ...talk.gone]);
  const all = { ...talk.messages };
  for (const [id, one] of Object.entries(theirs.messages)) if (!all[id] || isFurther(one, all[id])) all[id] = one;
  const messages = {};
  for (const id of Object.keys(all)) {
    if (!gone.has(id)) for (let one = all[id]; one && !messages[one.id]; one = all[one.parent]) messages[one.id] = one;
  }
  let { leaf } = talk;
  while (leaf && !messages[leaf]) leaf = talk.messages[leaf]?.parent ?? null;
  return { ...talk, messages, leaf, gone: [...gone] };
}

const ROLES = ["user", "assistant"];
const SETTINGS = ["temperature", "top_p", "max_output_tokens", "seed"];

const isText = (value) => typeof value === "string";
const isParts = (parts) => Array.isArray(parts) && parts.every((one) => isText(one?.name) && isText(one.text ?? one.arguments));

function isMessage(one) {
  if (!isText(one?.id) || one.id in {} || !ROLES.includes(one.role)) return false;
  const texts = [one.text, one.reasoning ?? "", one.trouble ?? "", one.model ?? "", one.state ?? ""];
  return texts.every(isText) && isParts(one.files ?? []) && isParts(one.calls ?? []);
}

/** Those messages that are whole, and whose parents are there: no path goes in a circle. */
function sound(given) {
  const byParent = new Map();
  for (const one of Object.values(given ?? {}).filter(isMessage)) {
    if (byParent.has(one.parent)) byParent.get(one.parent).push(one);
    else byParent.set(one.parent, [one]);
  }
  const messages = {};
  const rest = [...(byParent.get(null) ?? [])];
  for (const one of rest) {
    if (messages[one.id]) continue;
    messages[one.id] = { ...one, created: Number(one.created) || 0 };
    for (const child of byParent.get(one.id) ?? []) rest.push(child);
  }
  return messages;
}

function mended(given, messages) {
  const text = (value) => (isText(value) ? value : "");
  const sampling = Object.fromEntries(SETTINGS.map((name) => [name, given.sampling?.[name]]).filter(([, value]) => Number.isFinite(value)));
  const leaf = Object.hasOwn(messages, given.leaf) ? given.leaf : (Object.keys(messages).at(-1) ?? null);
  return { title: text(given.title).slice(0, 200), model: text(given.model), system: text(given.system), sampling, messages, leaf };
}

/** A conversation from a file as a new one; null if anything in it is wrong. */
export function readTalk(given) {
  const n = Object.keys(given?.messages ?? {}).length;
  const messages = sound(given?.messages);
  if (!n || Object.keys(messages).length !== n) return null;
  for (const message of Object.values(messages)) message.ref = null;
  return newTalk(mended(given, messages));
}

/** A conversation that was kept, as far as it is whole; an empty one if there is none. */
export function keptTalk(kept) {
  const given = kept ?? {};
  const gone = Array.isArray(given.gone) ? given.gone : [];
  const draft = isText(given.draft) ? given.draft : "";
  const draftFiles = isParts(given.draftFiles) ? given.draftFiles : [];
  return { ...newTalk(), ...given, ...mended(given, sound(given.messages)), gone, draft, draftFiles };
}
