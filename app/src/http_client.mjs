// The host is a server: /v1/models and /v1/responses. Each answer goes on from the one before, whose KV cache the server has.
import { isWindow, OF_WINDOW, spoken, Trouble } from "./client.mjs";
import { t } from "./words.mjs";

const KEY = "llama-bridge.key";
const LONGEST = 16_000_000; // characters of one event

export class HttpClient {
  library = null; // what is on a server is its owner's
  sessions = null;
  begun = new Map(); // answers that are on their way

  constructor() {
    try {
      this.key = sessionStorage.getItem(KEY) ?? "";
    } catch {
      this.key = ""; // storage is switched off
    }
    this.hasWindow = isWindow();
    this.flags = { near: this.hasWindow };
    if (!this.hasWindow) this.#begin(["v1/models"]);
  }

  /** Get the key of a window for the word in its address, which is good for one use: browsers remember addresses. */
  async enter() {
    try {
      this.key = history.state?.key ?? (await this.#key(location.hash.slice(OF_WINDOW.length)));
      this.#begin(["v1/models", "app/preferences", "app/conversations"]);
    } catch (error) {
      this.closed = error; // nothing else can be asked
    }
  }

  async #key(word) {
    const { key } = await (await this.fetch("app/enter", { word })).json();
    history.replaceState({ key }, "", location.pathname);
    return key;
  }

  /** Ask at once for what is asked for first. */
  #begin(paths) {
    for (const path of paths) {
      const answer = this.#request(path, { method: "GET" });
      answer.catch(() => {}); // whoever asks is told
      this.begun.set(path, answer);
    }
  }

  useKey(key) {
    this.key = key;
    try {
      sessionStorage.setItem(KEY, key); // for this tab, as long as it is open
    } catch {}
  }

  async models() {
    const answer = await this.fetch("v1/models");
    try {
      const { data } = await answer.json();
      return data.map(({ id, capabilities = null, n_ctx: context = null }) => ({ id, capabilities, context }));
    } catch {
      throw new Trouble("strange", "");
    }
  }

  /** model: an id; without one, of the model that is loaded. */
  async about(model) {
    const about = await (await this.fetch(model === undefined ? "app/about" : `app/about?model=${encodeURIComponent(model)}`)).json();
    const reason = ({ why, elsewhere }) => why || (elsewhere.length ? t("elsewhere", { backends: elsewhere.join(", ") }) : null);
    return about && { ...about, flags: about.flags.map((flag) => ({ name: flag.name, has: flag.has, reason: flag.has ? null : reason(flag) })) };
  }

  async *ask({ model, system, messages, sampling, signal }) {
    const known = messages.findLastIndex((one) => one.ref && one.model === model);
    const body = { model, stream: true, ...sampling };
    if (system) body.instructions = system;
    const from = (first, previous) => {
      const input = messages.slice(first).flatMap(items);
      return this.fetch("v1/responses", { ...body, input, ...(previous && { previous_response_id: previous }) }, signal);
    };
    let answer;
    try {
      answer = await from(known + 1, messages[known]?.ref);
    } catch (error) {
      if (error.param !== "previous_response_id") throw error;
      answer = await from(0); // the server has forgotten it: all is said again
    }
    yield* pieces(answer);
  }

  async forget(refs) {
    for (const ref of refs) await this.fetch(`v1/responses/${ref}`, undefined, undefined, "DELETE").catch(() => {});
  }

  /** Ask the server; an error of its own becomes one here. */
  async fetch(path, body, signal, method = body ? "POST" : "GET") {
    const begun = method === "GET" && this.begun.get(path);
    this.begun.delete(path);
    if (this.closed) throw this.closed;
    let answer;
    try {
      answer = await (begun || this.#request(path, { method, signal, body: body && JSON.stringify(body) }));
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Trouble("unreachable", "");
    }
    if (answer.ok) return answer;
    throw refusal(answer.status, await answer.json().catch(() => null));
  }

  #request(path, how) {
    const headers = { "Content-Type": "application/json" };
    if (/^[!-~]+$/.test(this.key)) headers.Authorization = `Bearer ${this.key}`; // others no key can be, and no header
    return fetch(path, { ...how, headers });
  }
}

/** What a server says instead of an answer. */
export function refusal(status, answer) {
  const told = answer?.error;
  const kinds = { 401: "key" };
  const codes = { context_length_exceeded: "full", model_not_found: "gone", session_mismatch: "mismatch", conversation_changed: "changed" };
  const kind = codes[told?.code] ?? kinds[status] ?? "refused";
  return Object.assign(new Trouble(kind, told?.message ?? `${status}`), { param: told?.param });
}

function items(message) {
  const { role, reasoning, calls = [] } = message;
  const content = spoken(message);
  const said = [];
  if (reasoning) said.push({ type: "reasoning", summary: [], content: [{ type: "reasoning_text", text: reasoning }] });
  if (content || !calls.length) said.push({ type: "message", role, content: content || " " });
  return said;
}

/** The events of a stream, each as the value of its data. */
export async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      if (rest.length > LONGEST) throw new Trouble("strange", "");
      for (const part of parts) {
        const line = part.split("\n").find((one) => one.startsWith("data: "));
        if (line) yield JSON.parse(line.slice(6));
      }
    }
  } catch (error) {
    if (error instanceof SyntaxError) throw new Trouble("strange", "");
    throw error.name === "AbortError" || error instanceof Trouble ? error : new Trouble("unreachable", "");
  } finally {
    reader.cancel().catch(() => {});
  }
}

async function* pieces(answer) {
  if (!answer.headers.get("Content-Type")?.startsWith("text/event-stream")) throw new Trouble("strange", "");
  try {
    yield* told(answer);
  } catch (error) {
    throw error instanceof TypeError ? new Trouble("strange", "") : error; // an event that lacks what it should have
  }
}

async function* told(answer) {
  let first = 0;
  for await (const event of events(answer)) {
    const { type } = event;
    if (type.endsWith(".delta")) first ||= performance.now();
    if (type === "response.output_text.delta") yield { kind: "text", text: event.delta };
    else if (type === "response.reasoning_text.delta") yield { kind: "reasoning", text: event.delta };
    else if (type === "response.output_item.done" && event.item.type === "function_call") {
      const { call_id: id, name, arguments: given } = event.item;
      yield { kind: "call", id, name, arguments: given };
    } else if (type === "response.failed") throw new Trouble("refused", event.response.error.message);
    else if (type === "response.completed" || type === "response.incomplete") {
      const { id, usage, mode, fallback, store } = event.response;
      const written = usage.output_tokens;
      const seconds = (performance.now() - first) / 1000;
      const facts = {
        cached: usage.input_tokens_details.cached_tokens,
        evaluated: usage.input_tokens - usage.input_tokens_details.cached_tokens,
        written,
        speed: written > 1 && seconds > 0 ? (written - 1) / seconds : null, // the first is there when the clock starts
        used: usage.total_tokens,
        mode,
        fallback,
      };
      yield { kind: "end", state: type === "response.completed" ? "done" : "cut", usage: facts, ref: store ? id : null };
      return;
    }
  }
  throw new Trouble("unreachable", "");
}
