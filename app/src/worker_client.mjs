// The host is a worker of this page, in which Python and llama.cpp run. It does one job after another; if it dies, the
// next job gets a new one.
import { orAborted, spoken, Trouble } from "./client.mjs";
import { t } from "./words.mjs";
import { WorkerLibrary } from "./worker_library.mjs";

const SETTINGS = { max_output_tokens: "max_tokens" }; // what Python calls otherwise
const STATES = { length: "cut", cancelled: "stopped" };

export class WorkerClient {
  flags = { near: true, starts: true };
  state = { loaded: null, models: [], unfinished: [], free: null, note: "" };
  changed = () => {};
  #last = Promise.resolve(); // settles when the jobs so far have ended
  #waiting = 0;

  /** make: makes the worker. It is sent {flag, lock} first; see examples/browser/worker.mjs. */
  constructor(make) {
    this.make = make;
    this.library = new WorkerLibrary(this);
    this.#start().catch(() => {}); // whoever asks for something is told
  }

  async models() {
    await this.look();
    return this.library.entries().map(({ id, key }) => {
      const { loaded } = this.state;
      const { capabilities, context } = loaded?.key === key ? loaded : { capabilities: null, context: null };
      return { id, capabilities, context };
    });
  }

  async about(model) {
    const about = await this.library.about();
    return about?.id === model ? about : null;
  }

  async *ask({ model, system, messages, sampling, signal }) {
    const said = messages.map((message) => ({ role: message.role, content: spoken(message), ...thoughts(message) }));
    if (system) said.unshift({ role: "system", content: system });
    const settings = Object.fromEntries(Object.entries(sampling).map(([name, value]) => [SETTINGS[name] ?? name, value]));
    const pieces = [];
    let wake = () => {};
    let over = false;
    const hear = (piece) => {
      pieces.push(piece);
      wake();
    };
    const work = this.job("ask", { model: this.library.find(model), messages: said, sampling: settings }, { signal, hear });
    const end = () => {
      over = true;
      wake();
    };
    work.then(end, end);
    for (;;) {
      while (pieces.length) yield pieces.shift();
      if (over) break;
      await new Promise((resolve) => (wake = resolve));
    }
    yield ending(await work);
  }

  async forget() {} // the prefix cache has no names

  /** What there is by now. Does not wait for a job. */
  async look() {
    if (!this.known) await this.job("look");
  }

  /** Have a job done when those before it have ended. hear(piece) is told of its text and progress. */
  async job(job, values = {}, { signal, hear = () => {} } = {}) {
    const before = this.#last;
    let leave;
    this.#last = new Promise((resolve) => (leave = resolve));
    if (!this.ready) hear({ kind: "progress", doing: "start" });
    else if (this.#waiting) hear({ kind: "progress", doing: "wait" });
    this.#waiting++;
    try {
      await orAborted(before, signal);
      const worker = await orAborted(this.#start(), signal);
      return await this.#run(worker, { job, ...values }, signal, hear);
    } finally {
      this.#waiting--;
      before.then(leave); // also if this one was given up
    }
  }

  async #run(worker, message, signal, hear) {
    const stop = () => {
      Atomics.store(this.flag, 0, 1);
      worker.postMessage({ job: "stop" });
    };
    Atomics.store(this.flag, 0, 0);
    signal?.addEventListener("abort", stop);
    try {
      return await new Promise((resolve, reject) => {
        this.current = { resolve, reject, hear };
        worker.postMessage(message);
      });
    } finally {
      signal?.removeEventListener("abort", stop);
      this.current = null;
    }
  }

  #start() {
    this.worker ??= new Promise((resolve, reject) => {
      const worker = this.make();
      const lock = `llama-bridge ${Math.random()}`; // no randomUUID: addresses with http have none
      const cannot = (words) => new Trouble("refused", t(this.ready ? "workerLost" : "cannotRun", { words: words.replace(/\.$/, "") }));
      const gone = (trouble) => {
        worker.terminate();
        if (!worker.onmessage) return;
        worker.onmessage = null;
        this.worker = null;
        this.ready = false;
        this.state.loaded = null;
        reject(trouble);
        this.current?.reject(trouble);
        if (this.known) this.changed();
      };
      this.flag = new Int32Array(self.crossOriginIsolated ? new SharedArrayBuffer(4) : 4);
      worker.onerror = (event) => {
        event.preventDefault();
        gone(cannot(event.message || t("noWorker")));
      };
      worker.onmessage = ({ data: { event, ...values } }) => {
        if (event === "ready") {
          this.ready = true;
          resolve(worker);
          navigator.locks?.request(lock, () => gone(cannot(t("workerEnded")))).catch(() => {}); // where a browser keeps nothing
        } else if (event === "broken") gone(cannot(values.words));
        else this.#hear(event, values);
      };
      worker.postMessage({ flag: this.flag, lock });
    });
    return this.worker;
  }

  #hear(event, values) {
    if (event === "state") {
      this.known = true;
      this.state = { note: "", ...values };
      this.changed();
    } else if (event === "done") this.current.resolve(values.value);
    else if (event === "stopped") this.current.reject(new DOMException("", "AbortError"));
    else if (event === "failed") this.current.reject(new Trouble(values.kind, values.words));
    else this.current.hear({ kind: event, ...values });
  }
}

const thoughts = ({ reasoning }) => (reasoning ? { reasoning_content: reasoning } : {});

function ending({ finish, room, speed, cached_tokens: cached, evaluated_tokens: evaluated, completion_tokens: written, prompt_tokens }) {
  const usage = { cached, evaluated, written, speed: speed || null, used: prompt_tokens + written, room, mode: "fresh", fallback: null };
  return { kind: "end", state: STATES[finish] ?? "done", usage, ref: null };
}
