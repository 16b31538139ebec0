// A conversation: a tree of messages, of which one path is shown. To edit or to ask again adds a branch; nothing is
// overwritten. Two tabs that change the same conversation both keep what they added.
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
  const empty = { title: "", model: "", system: "", sampling: {}, messages: {}, gone: [], leaf: null, draft: "" };
  return { id: newId("t"), created: now, changed: now, ...empty, ...fields };
}

/** The messages from the first to `leaf`. */
export function pathTo(talk, leaf = talk.leaf) {
  const found = [];
  for (let id = leaf; id; id = talk.messages[id]?.parent) found.push(talk.messages[id]);
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
  return line.length > 60 ? `${line.slice(0, 59).trimEnd()}…` : line;
}

/** Show the branch that begins with `id`, and of it what is newest. */
export function showBranch(talk, id) {
  talk.leaf = id;
  for (let next; (next = childrenOf(talk, talk.leaf).at(-1)); ) talk.leaf = next.id;
}

/** Remove a message and all after it; returns the names that the host has for them. */
export function removeBranch(talk, id) {
  const { parent } = talk.messages[id];
  const refs = [];
  const rest = [id];
  while (rest.length) {
    const next = rest.pop();
    for (const child of childrenOf(talk, next)) rest.push(child.id);
    if (talk.messages[next].ref) refs.push(talk.messages[next].ref);
    delete talk.messages[next];
    talk.gone.push(next);
  }
  const beside = childrenOf(talk, parent).at(-1);
  if (beside) showBranch(talk, beside.id);
  else talk.leaf = parent;
  talk.changed = Date.now();
  return refs;
}

/** A conversation that somebody has saved with its KV cache: messages in their order, of which the last goes on from `ref`. */
export function talkOf({ model, system, messages, ref }) {
  const talk = newTalk({ model, system });
  for (const fields of messages) addMessage(talk, talk.leaf, fields.role === "assistant" ? { ...fields, model } : fields);
  Object.values(talk.messages).forEach((message, i) => (message.created += i)); // an order of their own
  if (talk.leaf) talk.messages[talk.leaf].ref = ref;
  return talk;
}

/** A new conversation with what was said up to a message. */
export function forkAt(talk, id) {
  const { model, system, sampling } = talk;
  const forked = newTalk({ title: talk.title, model, system, sampling: { ...sampling }, leaf: id });
  for (const message of pathTo(talk, id)) forked.messages[message.id] = { ...message };
  return forked;
}

/** What `kept` has and `talk` lacks, unless it was removed. */
export function merge(talk, kept) {
  const gone = new Set([...(kept?.gone ?? []), ...talk.gone]);
  const messages = { ...kept?.messages, ...talk.messages };
  for (const id of gone) delete messages[id];
  let { leaf } = talk;
  while (leaf && !messages[leaf]) leaf = talk.messages[leaf]?.parent ?? null;
  return { ...talk, messages, leaf, gone: [...gone] };
}

const ROLES = ["user", "assistant"];

/** A conversation from a file, checked: what it names is there, and no path goes in a circle. */
export function readTalk(given) {
  const messages = {};
  const known = Object.values(given?.messages ?? {});
  let added = true;
  while (added) {
    added = false;
    for (const one of known) {
      if (typeof one?.id !== "string" || messages[one.id]) continue;
      if (!ROLES.includes(one.role) || typeof one.text !== "string") continue;
      if (one.parent !== null && !messages[one.parent]) continue;
      messages[one.id] = { ...one, created: Number(one.created) || 0, ref: null };
      added = true;
    }
  }
  if (!known.length || Object.keys(messages).length !== known.length) return null;
  const text = (value) => (typeof value === "string" ? value : "");
  const sampling = typeof given.sampling === "object" ? { ...given.sampling } : {};
  const leaf = messages[given.leaf] ? given.leaf : Object.keys(messages).at(-1);
  return newTalk({ title: text(given.title), model: text(given.model), system: text(given.system), sampling, messages, leaf });
}
