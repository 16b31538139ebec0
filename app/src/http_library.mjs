// The models that the server of a window keeps for its user: those that `llama-bridge models` lists.
import { Trouble } from "./client.mjs";
import { events } from "./http_client.mjs";
import { upload } from "./upload.mjs";
import { number, size, t } from "./words.mjs";

const PLACE = "app/models";

export class HttpLibrary {
  takes = { names: true, paths: true, files: true, untrusted: false };

  constructor(client) {
    this.client = client;
  }

  async all() {
    const { models, used, free, sandbox } = await this.#ask(PLACE);
    this.takes.untrusted = sandbox;
    return { models: models.map((model) => ({ ...model, detail: wordsOf(model) })), used, free, note: null };
  }

  async add(what, { signal, progress, anyway }) {
    if (Array.isArray(what)) return this.#upload(what, { signal, progress });
    progress({ doing: "look", done: 0, total: null, note: null });
    const seen = await this.#ask(`${PLACE}/look`, { model: what }, signal);
    if (seen.state === "here") return seen.id;
    if (seen.fits && !seen.fits.n_ctx && !seen.fits.n_ctx_q8_0 && !anyway) throw new Trouble("large", t("tooLarge", { name: seen.name, size: size(seen.size) }));
    const note = wordsOf(seen);
    return this.#follow(`${PLACE}/pull`, { model: what }, signal, (step) => progress({ ...step, note }));
  }

  /** Files of one model, one after another; what has come of it goes if one fails. */
  async #upload(files, { signal, progress }) {
    const total = files.reduce((sum, file) => sum + file.size, 0);
    let before = 0;
    let id = null;
    try {
      for (const file of files) {
        const tell = (step) => progress({ ...step, done: before + step.done, total });
        const found = await upload(this.client, `${PLACE}/files/${encodeURIComponent(file.name)}`, file, { signal, progress: tell });
        id ??= found.id;
        before += file.size;
      }
    } catch (error) {
      if (id !== null) await this.remove(id).catch(() => {});
      throw error;
    }
    return id;
  }

  async use(id, { signal, progress, untrusted = false }) {
    await this.#follow(`${PLACE}/use`, { model: id, untrusted }, signal, (step) => progress({ ...step, note: null }));
  }

  async remove(id) {
    await this.#ask(`${PLACE}/remove`, { model: id });
  }

  about() {
    return this.client.about();
  }

  async #ask(path, body, signal) {
    return (await this.client.fetch(path, body, signal)).json();
  }

  /** Ask for something that takes long, and tell how far it is. */
  async #follow(path, body, signal, progress) {
    for await (const event of events(await this.client.fetch(path, body, signal))) {
      if (event.error) throw new Trouble("refused", event.error.message);
      if (event.id) return event.id;
      progress(event);
    }
    throw new Trouble("unreachable", "");
  }
}

/** What a model is, where it is, and whether it fits. */
function wordsOf({ quantisation, architecture, place, problem, fits }) {
  if (problem) return problem;
  return [quantisation, architecture, place && t(`of_${place}`), fits && fitting(fits)].filter(Boolean).join(" · ");
}

function fitting({ n_ctx: longest, n_ctx_q8_0: smaller, most }) {
  if (longest >= most) return t("fits", { n: number(most) });
  if (longest) return t("fitsPart", { n: number(longest) });
  return smaller ? t("fitsSmaller", { n: number(smaller) }) : t("fitsNot");
}
