// Questions and their answers, from the composer to the last token: a question becomes a message, the host is asked, and the
// answer grows piece by piece.
import { orAborted, Trouble } from "./client.mjs";
import { wordsOf } from "./notices.mjs";
import { addMessage, nextParent, pathTo } from "./talk.mjs";

const SAVED_EVERY = 700; // milliseconds, while an answer is written
const KEPT_IN = 1000; // milliseconds that it may take to keep its end, before it is over anyway

export class Answering {
  running = new Map(); // by the conversation: {abort, talk, message}

  /**
   * models: a ModelChoice. on: {begun(talk), keep(talk), doing(talk, message, progress), grown(talk, message), over(talk, message)};
   * doing is told what a host does before it answers: see client.mjs.
   */
  constructor(client, models, on) {
    Object.assign(this, { client, models, on });
  }

  send(talk, text, files) {
    Object.assign(talk, { draft: "", draftFiles: [] });
    const question = addMessage(talk, nextParent(talk), { role: "user", text, ...(files.length && { files }) });
    return this.answer(talk, question.id);
  }

  /** The question in other words, as another version; false if an answer is being written. */
  edit(talk, message, text) {
    if (this.running.has(talk.id)) return false;
    const { parent, files } = message;
    const question = addMessage(talk, parent, { role: "user", text, ...(files && { files }) });
    this.answer(talk, question.id);
    return true;
  }

  stop(talk) {
    this.running.get(talk.id)?.abort.abort();
  }

  /** question: the id of the message to answer. */
  async answer(talk, question) {
    if (this.running.has(talk.id)) return;
    const message = addMessage(talk, question, { role: "assistant", text: "", reasoning: "", calls: [], model: talk.model, state: "writing" });
    const abort = new AbortController();
    this.running.set(talk.id, { abort, talk, message });
    this.on.begun(talk);
    try {
      await this.#ask(talk, message, abort.signal);
    } catch (error) {
      if (error.name === "AbortError") message.state = "stopped";
      else Object.assign(message, { state: "failed", trouble: wordsOf(error) });
      if (error.kind === "key") this.models.askForKey();
    }
    talk.changed = Date.now();
    await Promise.race([this.on.keep(talk), new Promise((done) => setTimeout(done, KEPT_IN))]); // an answer that is over outlives a reload
    this.running.delete(talk.id);
    await this.on.over(talk, message);
  }

  async #ask(talk, message, signal) {
    try {
      await this.#write(talk, message, signal);
    } catch (error) {
      if (error.kind !== "gone") throw error;
      await this.models.find(); // another window has removed or replaced it: another one answers, and that is told
      await this.#write(talk, message, signal);
    }
  }

  async #write(talk, message, signal) {
    const { system, sampling } = talk;
    const messages = pathTo(talk, message.parent);
    if (!this.models.all && this.client.flags.starts) this.on.doing(talk, message, { doing: "start" });
    const { id: model, context: room } = await this.#model(talk, message, signal);
    message.model = model;
    let saved = performance.now();
    for await (const piece of this.client.ask({ model, system, sampling, messages, signal })) {
      if (piece.kind === "progress") {
        this.on.doing(talk, message, piece);
        continue;
      }
      take(piece, message, room);
      this.on.grown(talk, message);
      if (performance.now() - saved > SAVED_EVERY) {
        saved = performance.now();
        this.on.keep(talk);
      }
    }
  }

  /** The model that answers; somebody may ask before any is found, and before the one that is chosen is loaded. */
  async #model(talk, message, signal) {
    const { models } = this;
    await orAborted(models.finding, signal);
    await models.settled(talk, signal, (name) => this.on.doing(talk, message, { doing: "load", name }));
    if (models.missing) await orAborted(models.find(), signal); // perhaps they are there now
    if (models.missing) throw new Trouble("refused", models.missing);
    models.useFor(talk);
    return models.of(talk) ?? { id: talk.model, context: null };
  }
}

/** What a piece of an answer adds to its message; see client.mjs. room: tokens that the context has room for, or null. */
function take(piece, message, room) {
  if (piece.kind === "text") message.text += piece.text;
  else if (piece.kind === "reasoning") message.reasoning += piece.text;
  else if (piece.kind === "call") message.calls.push({ id: piece.id, name: piece.name, arguments: piece.arguments });
  else Object.assign(message, { state: piece.state, usage: { room, ...piece.usage }, ref: piece.ref });
}
