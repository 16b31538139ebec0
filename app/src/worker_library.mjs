// The models of a page: the demo, those that the browser keeps, and files that it could not keep. See client.mjs.
import { Trouble } from "./client.mjs";
import { t } from "./words.mjs";

const DEMO = "demo";

export class WorkerLibrary {
  takes = { names: true, own: true, paths: false, files: true, untrusted: false, loads: true };
  #files = new Map(); // by the name: {files, note}

  constructor(client) {
    this.client = client;
  }

  /** All models that can be asked: {id, key, name, size, files, note, stays}. The worker knows them by the key. */
  entries() {
    const { loaded, models, demo } = this.client.state;
    const kept = models.map(({ sha256, name, size }) => ({ key: sha256, name, size })).reverse(); // the oldest keeps its name
    const files = [...this.#files].map(([name, { files: all, note }]) => ({ key: name, name, size: sizeOf(all), files: all, note }));
    const all = [{ key: DEMO, name: DEMO, size: demo, stays: true }, ...kept, ...files];
    if (loaded && !all.some(({ key }) => key === loaded.key)) all.push({ key: loaded.key, name: loaded.name, stays: true });
    const taken = new Set();
    return all.map((one) => {
      const id = taken.has(one.name) ? `${one.name} (${one.key.slice(0, 8)})` : one.name;
      taken.add(id);
      return { id, ...one };
    });
  }

  /** What the worker is told of a model. */
  find(id) {
    const found = this.entries().find((one) => one.id === id);
    if (!found) throw gone(id);
    const { key, name, files } = found;
    return files ? { key, files } : { key, name };
  }

  async all() {
    const { client } = this;
    await client.look();
    const { loaded, models, unfinished, free, note } = client.state;
    const used = [...models, ...unfinished].reduce((sum, { size }) => sum + size, 0);
    const whole = this.entries().map(({ id, key, name, size, note, stays }) => {
      const state = loaded?.key === key ? "loaded" : "here";
      return { id, name, size, stays, detail: key === DEMO ? t("of_page") : (note ?? null), state, done: size };
    });
    const parts = unfinished.map(({ url, name, size, total }) => ({ id: url, name, size: total ?? null, detail: null, state: "part", done: size }));
    return { models: [...whole, ...parts], used, free: free ?? null, note: note || null }; // Python's None is undefined here
  }

  async add(what, { signal, progress }) {
    navigator.storage?.persist?.();
    if (!Array.isArray(what)) return this.#fetch(what, { signal, progress });
    const [{ name }] = what;
    this.#files.set(name, { files: what }); // so that a copy that is stopped leaves it usable
    const { client } = this;
    try {
      const { key = name, note } = await client.job("add", { files: what }, { signal, hear: progress });
      if (note) this.#files.set(name, { files: what, note });
      else this.#files.delete(name);
      return this.#idOf(key);
    } catch (error) {
      if (client.state.loaded?.key !== name) this.#files.delete(name);
      throw error;
    } finally {
      client.changed();
    }
  }

  async #fetch(what, { signal, progress }) {
    const url = URL.parse(what.trim(), location);
    if (url?.origin !== location.origin) throw new Trouble("refused", t("otherServer", { origin: location.origin }));
    const { key } = await this.client.job("fetch", { url: url.href }, { signal, hear: progress });
    return this.#idOf(key);
  }

  async use(id, { signal, progress }) {
    await this.client.job("use", { model: this.find(id) }, { signal, hear: progress }).catch((error) => {
      throw error.kind === "gone" ? gone(id) : error; // another tab has removed it
    });
  }

  async remove(id) {
    const part = this.client.state.unfinished.find(({ url }) => url === id);
    if (part) return this.client.job("discard", { url: id });
    const { key, files } = this.find(id);
    if (!files) return this.client.job("delete", { sha256: key });
    this.#files.delete(key);
    this.client.changed();
  }

  async about() {
    const { loaded } = this.client.state;
    if (!loaded) return null;
    const { key, backend, threads, context, flags } = loaded;
    return { id: this.#idOf(key), backend, threads, context, untrusted: false, flags };
  }

  #idOf(key) {
    return this.entries().find((one) => one.key === key)?.id;
  }
}

const gone = (model) => new Trouble("gone", t("noModel", { model }));
const sizeOf = (files) => files.reduce((sum, { size }) => sum + size, 0);
