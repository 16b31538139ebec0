// The dialog of models: what is here and what fits, how models come and go, and what the one in use can do.
import { aboutView } from "./about_view.mjs";
import { Trouble } from "./client.mjs";
import { closedBeside, icon, iconButton, make } from "./dom.mjs";
import { JobView } from "./job_view.mjs";
import { modelsIn } from "./model_files.mjs";
import { tell, wordsOf } from "./notices.mjs";
import { number, size, t } from "./words.mjs";

export class ModelsView {
  jobs = [];
  loading = null; // the job that loads a model: there is one at most
  rows = new Map(); // by all that they depend on
  found = { models: [], used: 0, free: null, note: null };

  /**
   * library: see client.mjs. on: {changed(): there are more models, or fewer, coming(name, model): somebody has chosen one that is
   * not loaded yet; model: a promise of its id, or of null if it cannot be had; returns a promise of whether it was}
   */
  constructor(library, on) {
    Object.assign(this, { library, on });
    this.troubles = make("div", { className: "troubles" });
    this.work = make("div", { className: "jobs", role: "group", "aria-live": "polite" });
    this.list = make("ul", { className: "models" });
    this.room = make("p", { className: "facts" });
    this.dropHint = make("span");
    this.about = make("div", { className: "about" });
  }

  // what others ask

  /** Models that use() would load. */
  get ready() {
    return this.found.models.filter(({ state }) => state === "here");
  }

  /** Not the same as having a dialog: that goes a moment after it was closed. */
  get isOpen() {
    return Boolean(this.dialog?.open);
  }

  nameOf(id) {
    return this.found.models.find((model) => model.id === id)?.name ?? shortName(id);
  }

  async refresh() {
    this.found = await this.library.all();
    if (this.isOpen) await this.#show();
  }

  async open() {
    if (this.isOpen) return;
    this.#build();
    document.body.append(this.dialog);
    this.dialog.showModal();
    await this.refresh().catch((error) => this.#trouble(error));
  }

  /** Load a model; whether that worked. The dialog shows how far it is. */
  use(id, how = {}) {
    const closes = !this.isOpen;
    if (closes) this.open();
    this.#begin();
    return this.on.coming(this.nameOf(id), this.#load(id, { how, closes }));
  }

  /** closes: whether the dialog is closed then, if it has nothing else to tell. One that is closed already stays so. */
  async #load(id, { how = {}, closes = false } = {}) {
    const load = async (running) => {
      await this.library.use(id, { ...how, ...running });
      return id;
    };
    const loaded = await this.#do(id, load, { loads: true });
    if (loaded === null) return null;
    if (closes && !this.jobs.length && !this.troubles.childElementCount) this.dialog?.close();
    else this.#say(t("isLoaded", { name: this.nameOf(id) }));
    return id;
  }

  /** Get the models in some Files. One that is not whole is told, and not begun. */
  addFiles(files) {
    const all = modelsIn(files);
    for (const model of all.filter(({ missing }) => !missing.length)) this.add(model.files);
    const part = all.find(({ missing }) => missing.length);
    if (!part) return;
    if (!this.isOpen) this.open();
    const { name, count, missing } = part;
    this.#trouble(new Trouble("refused", t("partsMissing", { name, count: number(count), missing: missing.join(", ") })));
  }

  /** Get a model: its Files, in order, or its name. */
  add(what, how = {}) {
    if (!this.isOpen) this.open();
    this.#begin();
    const id = this.#get(what, how);
    if (this.library.takes.loads) return this.on.coming(this.#nameOf(what), id.then((got) => got && this.#load(got)));
    return id.then((got) => {
      if (got === null) return;
      this.#say(t("isHere", { name: this.nameOf(got) }));
      return this.on.changed();
    });
  }

  #get(what, how) {
    const again = () => this.add(what, { ...how, anyway: true });
    return this.#do(what, (running) => this.library.add(what, { ...how, ...running }), { again });
  }

  // what is on the screen

  #build() {
    const { takes } = this.library;
    const title = make("h2", { id: "models-title", textContent: t("models") });
    const close = iconButton("close", t("close"), () => this.dialog.close());
    const head = make("div", { className: "head" }, title, close);
    const parts = [head, this.troubles, this.work, this.list, this.room, ...this.#adding(takes), this.about];
    this.troubles.replaceChildren();
    this.dialog?.remove();
    this.dialog = make("dialog", { className: "library", "aria-labelledby": "models-title", onclose: ({ target }) => target.remove() }, ...parts);
    closedBeside(this.dialog);
  }

  #adding({ names, own, paths, files }) {
    const parts = [];
    this.#showDropHint();
    if (names) {
      const hint = make("p", { id: "model-name-hint", className: "facts", textContent: t(own ? "ownHint" : paths ? "pathHint" : "nameHint") });
      const box = make("input", { id: "model-name", autocomplete: "off", spellcheck: false, required: true, dir: "auto", "aria-describedby": hint.id });
      const label = make("label", { for: box.id, textContent: t(own ? "ownAddress" : paths ? "nameOrPath" : "nameOrAddress") });
      const form = make("form", { className: "getting" }, label, make("div", { className: "beside" }, box, make("button", { className: "main", textContent: t("download") })), hint);
      form.onsubmit = (event) => {
        event.preventDefault();
        const name = box.value.trim();
        if (name) this.add(name);
        box.value = "";
      };
      parts.push(form);
    }
    if (files) {
      const picker = make("input", { type: "file", accept: ".gguf", multiple: true, hidden: true });
      picker.onchange = () => {
        this.addFiles([...picker.files]);
        picker.value = "";
      };
      const button = make("button", { type: "button", onclick: () => picker.click() }, icon("clip"), t("chooseFile"));
      parts.push(make("div", { className: "dropping" }, picker, button, this.dropHint));
    }
    return parts.length ? [make("h3", { textContent: t("addModel") }), ...parts] : [];
  }

  #showDropHint() {
    const page = this.found.note ? "dropHintUnkept" : "dropHintPage";
    this.dropHint.textContent = t(this.library.takes.paths ? "dropHint" : page);
  }

  async #show() {
    const { models, used, free, note } = this.found;
    this.#list(models);
    this.#showDropHint();
    const room = free === null ? t("room", { used: size(used) }) : t(this.library.takes.own ? "roomHere" : "roomFree", { used: size(used), free: size(free) });
    this.room.textContent = [room, note].filter(Boolean).join(". ");
    const about = await this.library.about();
    this.about.replaceChildren(...(about ? aboutView(about, this.nameOf(about.id)) : []));
  }

  /** A row that says what it said stays where it is: a button that is just pressed is still there when it is let go. */
  #list(models) {
    const before = this.rows;
    this.rows = new Map();
    for (const model of models) {
      const isBusy = this.#isBusy(model);
      const key = JSON.stringify([model, isBusy, this.library.takes.untrusted]);
      this.rows.set(key, before.get(key) ?? this.#row(model, isBusy));
    }
    if (!models.length) this.rows.set("", before.get("") ?? make("li", { className: "none", textContent: t("noModels") }));
    for (const [key, row] of before) if (!this.rows.has(key)) row.remove();
    let next = this.list.firstChild;
    for (const row of this.rows.values()) {
      if (row === next) next = row.nextSibling;
      else this.list.insertBefore(row, next);
    }
  }

  #isBusy({ id, state }) {
    return state === "part" ? this.jobs.some(({ what }) => what === id) : this.loading !== null;
  }

  #row(model, isBusy) {
    const { name, detail, state, done } = model;
    const title = make("b", { textContent: name, dir: "auto", title: model.id });
    const facts = [state === "part" ? arrived(model) : model.size && size(model.size), detail].filter(Boolean).join(" · ");
    const words = make("div", { className: "what" }, title, make("span", { className: "facts", textContent: facts }));
    if (state === "part" && done !== null && model.size) words.append(make("progress", { max: model.size, value: done, ariaLabel: facts }));
    const buttons = [];
    if (state === "loaded") buttons.push(make("span", { className: "mark" }, icon("check"), t("loaded")));
    if (state === "here") {
      if (this.library.takes.untrusted) buttons.push(iconButton("shield", t("useUntrusted", { name }), () => this.use(model.id, { untrusted: true })));
      buttons.push(make("button", { type: "button", ariaLabel: t("useModel", { name }), textContent: t("use"), onclick: () => this.use(model.id) }));
    }
    if (state === "part") buttons.push(make("button", { type: "button", ariaLabel: t("goOnWith", { name }), textContent: t("goOn"), onclick: () => this.add(model.id) }));
    for (const button of buttons) button.disabled = isBusy;
    if (!model.stays && state !== "loaded") buttons.push(iconButton("bin", t("removeModel", { name }), () => this.#remove(model)));
    return make("li", { className: state }, words, make("div", { className: "buttons" }, ...buttons));
  }

  #remove({ id, name, size: bytes, done }) {
    const sure = make("button", { type: "button", className: "danger", textContent: t("remove") });
    const question = notice(t("removeSure", { name, size: size(done ?? bytes) }), sure);
    this.troubles.replaceChildren(question);
    sure.focus();
    sure.onclick = async () => {
      question.remove();
      try {
        await this.library.remove(id);
        await this.refresh();
        await this.on.changed();
      } catch (error) {
        this.#trouble(error);
      }
    };
  }

  // work

  #nameOf(what) {
    return Array.isArray(what) ? what[0].name : this.nameOf(what);
  }

  /** Somebody wants something else: what went wrong before is over. Of several files, each may have its own trouble. */
  #begin() {
    if (!this.jobs.length) this.troubles.replaceChildren();
  }

  /** Do something that takes long with a model; returns what it returns, or null if it failed or was stopped, which is told. */
  async #do(what, work, { again = null, loads = false }) {
    const job = new JobView(what, this.#nameOf(what));
    this.jobs.push(job);
    if (loads) this.loading = job;
    this.work.append(job.place);
    if (this.isOpen) await this.#show();
    let result = null;
    let trouble = null;
    try {
      result = await work(job.running);
    } catch (error) {
      if (error.name !== "AbortError") trouble = error;
    }
    this.jobs.splice(this.jobs.indexOf(job), 1);
    job.place.remove();
    if (job === this.loading) this.loading = null;
    await this.refresh().catch((error) => (trouble ??= error));
    if (trouble) this.#trouble(trouble, again);
    return result;
  }

  #trouble(error, anyway) {
    if (!(error instanceof Trouble)) throw error;
    const words = wordsOf(error);
    if (!this.isOpen) return tell(words);
    const again = make("button", { type: "button", textContent: t("takeAnyway") });
    const shown = notice(words, error.kind === "large" && anyway ? again : null);
    again.onclick = anyway;
    shown.setAttribute("role", "alert");
    this.troubles.append(shown);
  }

  #say(words) {
    if (!this.isOpen) return tell(words);
    this.troubles.querySelector(".said")?.remove();
    this.troubles.prepend(make("p", { className: "said", role: "status", textContent: words }));
  }
}

function notice(words, button) {
  return make("div", { className: "trouble" }, make("p", { textContent: words }), button);
}

function arrived({ size: bytes, done }) {
  return bytes && done !== bytes ? t("unfinished", { done: size(done), size: size(bytes) }) : t("unfinishedPart", { done: size(done ?? bytes) });
}

/** The part of a model's name that tells it from others. */
export function shortName(id) {
  const last = id.replace(/[?#].*$/, "").replace(/[/\\]+$/, "").split(/[/\\]/).at(-1);
  return last.replace(/\.gguf$/i, "") || id;
}
