// What the interface asks of a host. A host is an object with:
//
//   flags          {near: whether the model is surely on the computer in front of which somebody sits}
//   models()       -> [{id, capabilities: [names] or null while it is not loaded, context: tokens or null}]
//   ask(question)  -> asynchronous iterator of pieces, in this order:
//                       {kind: "reasoning" | "text", text}, {kind: "call", id, name, arguments}, each any number of times;
//                       {kind: "end", state: "done" | "cut", usage, ref}
//   forget(refs)   answers that no conversation has any more; failing is silent
//
//   question: {model, system, messages: a path of talk.mjs, sampling, signal: of an AbortController}
//   usage:    {cached, evaluated, written: tokens, speed: tokens a second or null, used: tokens in the context,
//              mode: "fresh" | "continued", fallback: why it is fresh, or null}
//
// Every error is a Trouble. What came before it stays.

export class Trouble extends Error {
  /** kind: "key" (one is needed), "unreachable", "strange" (no answer of such a host), "full" (of the context) or "refused". */
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
