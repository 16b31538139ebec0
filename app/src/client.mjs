// What the interface asks of a host. A host is an object with:
//
//   flags          {near: whether the model is surely on the computer in front of which somebody sits,
//                   starts: whether models() waits for the host to start}
//   changed        is called when models() would tell something else; the interface sets it
//   models()       -> [{id, capabilities: [names] or null while it is not loaded, context: tokens or null}]
//   about(model)   what it can do here and why it cannot do the rest, as of a library; null if it is not loaded
//   ask(question)  -> asynchronous iterator of pieces, in this order:
//                       {kind: "progress", doing, name, done, total, unit: "bytes" | "tokens", note}, any number, all but doing
//                         optional; doing: as in a library, or "start" (the host), "wait" (for another answer), "read"
//                       {kind: "reasoning" | "text", text}, {kind: "call", id, name, arguments}, each any number of times;
//                       {kind: "end", state: "done" | "cut" | "stopped", usage, ref}
//   forget(refs)   answers that no conversation has any more; failing is silent
//   library        the models that the host keeps, or null where it keeps none; see below
//   sessions       conversations with their KV caches as files, or null where there are none; see below
//
//   question: {model, system, messages: a path of talk.mjs, sampling, signal: of an AbortController}
//   usage:    {cached, evaluated, written: tokens, speed: tokens a second or null, used: tokens in the context,
//              room: tokens that the context has room for, if the host knows it only now,
//              mode: "fresh" | "continued", fallback: why it is fresh, or null}
//
// A library is an object with:
//
//   takes              {names, own, paths, files, untrusted, loads}: whether add() takes names and addresses, only those of
//                      the page's own server, paths of this computer, and files; whether use() takes untrusted; whether
//                      what was added is to be loaded too
//   all()              -> {models, used: bytes of all that are here, free: bytes of room or null, note: words or null}
//                         model: {id, name, size: bytes, detail: words or null, state: "loaded" | "here" | "part",
//                                 done: bytes of a part or null, stays: whether remove() refuses it}
//   add(what, how)     -> id; what: the Files of a model, in order, or a name, an address or a path; a part is added by its id, and goes on.
//                         A Trouble of the kind "large": it does not fit into memory here, unless how.anyway
//   use(id, how)       loads it in place of what is loaded; how.untrusted: in a sandbox
//   remove(id)
//   about()            -> of what is loaded, or null: {id, backend, threads, context: numbers or null, untrusted: in a sandbox,
//                         flags: [{name, has, reason: words or null}]}
//
//   how: {signal: of an AbortController, progress({doing, done, total, note})}; doing: "look", "copy", "download",
//        "verify", "compile" or "load"; done and total: bytes, total null where nobody knows; note: words or null
//
// Sessions are an object with:
//
//   facts(ref)      -> of the answer with this ref {tokens: in the KV cache, saves: whether they can be saved}, or null
//   save(ref)       -> the file, as a Blob
//   load(file, how) -> {ref, model, system, messages: as in a talk, without ids}; how as above, and again: what does not fit
//                      here is read again; without it that is a Trouble of the kind "mismatch"
//   check(file, how) -> whether it can go on here {ok, tokens, differing: [{field, saved, current}], refusal: words or null,
//                      logits: {positions, agreeing: at how many of them both have the same likeliest token} or null}; how as above
//
// Every error is a Trouble. What came before it stays.

export const OF_WINDOW = "#window=";

/** Whether this is a window of its own, whose server keeps the conversations. It knows its key also when it is loaded again. */
export const isWindow = () => location.hash.startsWith(OF_WINDOW) || Boolean(history.state?.key);

export class Trouble extends Error {
  /** kind: "key" (one is needed), "unreachable", "strange" (no answer of such a host), "full" (of the context), "large" (for the memory),
      "gone" (the model), "mismatch" (of a session), "changed" (by another window) or "refused". */
  constructor(kind, message) {
    super(message);
    this.kind = kind;
  }
}

/** What a message says to the model: its text, and the files that came with it. */
export function spoken({ text, files = [] }) {
  const parts = files.map((file) => {
    const fence = "`".repeat(Math.max(3, ...[...file.text.matchAll(/`+/g)].map(([run]) => run.length + 1)));
    return `${file.name}:\n\n${fence}\n${file.text}\n${fence}`;
  });
  return [...parts, text].filter(Boolean).join("\n\n");
}

/** What a promise comes to, or an AbortError as soon as nobody wants to wait for it any longer. */
export function orAborted(promise, signal) {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const leave = () => reject(signal.reason);
    if (signal.aborted) return leave();
    signal.addEventListener("abort", leave);
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", leave));
  });
}
