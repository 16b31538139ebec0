// The interface: what is on the screen, and what happens when somebody does something. See client.mjs for what it asks of a host.
import { orAborted, Trouble } from "./client.mjs";
import { Composer } from "./composer.mjs";
import { icon, iconButton, make } from "./dom.mjs";
import { openEdit } from "./edit_form.mjs";
import { readFile, saveJson, saveMarkdown, stemOf } from "./files.mjs";
import { isModelFile, ModelsView } from "./models_view.mjs";
import { askForKey, greeting, tell } from "./notices.mjs";
import { Picker } from "./picker.mjs";
import { preferences, savePreferences } from "./preferences.mjs";
import { isSessionFile, SessionView } from "./session_view.mjs";
import { openSettings } from "./settings_view.mjs";
import { headOf } from "./shelf.mjs";
import { Sidebar } from "./sidebar.mjs";
import * as talks from "./talk.mjs";
import { ThreadView } from "./thread_view.mjs";
import { percent, speak, t } from "./words.mjs";

const SAVED_EVERY = 700; // milliseconds, while an answer is written
const ALMOST = 0.8; // of the context

export class App {
  models = null; // until they are found
  heads = new Map();
  running = new Map(); // by the conversation: {abort, talk, message}

  /** openShelf: see shelf.mjs. */
  constructor(client, openShelf) {
    this.client = client;
    this.openShelf = openShelf;
  }

  async start() {
    speak(preferences.language);
    this.#build();
    this.ready = this.#openTalks();
    this.client.changed = () => this.#findModels();
    this.finding = this.ready.then(() => this.#findModels());
    await this.finding;
  }

  async #openTalks() {
    this.shelf = await this.openShelf((id) => this.#changedElsewhere(id));
    try {
      for (const head of await this.shelf.heads()) this.heads.set(head.id, head);
    } catch (error) {
      tell(this.#wordsOf(error));
    }
    await this.open(this.heads.has(preferences.last) ? preferences.last : null);
  }

  // what is on the screen

  #build() {
    document.body.replaceChildren();
    this.sidebar = new Sidebar({
      open: (id) => this.open(id),
      create: () => this.open(null),
      find: (words) => this.shelf.find(words),
      rename: (id, title) => this.#change(id, (talk) => (talk.title = title)),
      remove: (id) => this.#removeTalk(id),
      markdown: (id) => this.#with(id, saveMarkdown),
      json: (id) => this.#with(id, saveJson),
      session: this.client.sessions && ((id) => this.#with(id, (talk) => this.#session(talk).open())),
      take: (file) => this.#take(file),
      settings: () => this.#settings(),
      close: () => document.body.classList.remove("menu-open"),
    });
    this.thread = new ThreadView({
      again: (message) => this.#answer(this.talk, message.parent),
      retry: (message) => this.#answer(this.talk, message.parent),
      edit: (message, view) => this.#edit(message, view),
      fork: (message) => this.#fork(message),
      remove: (message) => this.#removeMessage(message),
      turn: (_, id) => {
        talks.showBranch(this.talk, id);
        this.#save(this.talk);
        this.#show();
      },
    });
    this.thread.onscroll = (atEnd) => (this.down.hidden = atEnd);
    this.composer = new Composer({
      send: (text, files) => this.#send(text, files),
      stop: () => this.#stop(),
      draft: (text) => this.#draft(text),
      trouble: (words) => tell(words),
      other: (file) => this.#takeModel(file),
    });
    this.picker = new Picker((id) => this.#choose(id));
    if (this.client.flags.starts) this.picker.wait(t("doing_start"));
    this.library = this.client.library && new ModelsView(this.client.library, (id) => this.#modelsChanged(id));
    this.costs = make("button", { type: "button", id: "costs", className: "icon", title: t("costsHint"), ariaLabel: t("costs"), onclick: () => this.#showCosts(!preferences.costs) }, icon("gauge"));
    this.meter = make("span", { className: "meter" });
    this.menu = iconButton("menu", t("openMenu"), () => document.body.classList.add("menu-open"), "icon narrow");
    this.fresh = iconButton("plus", t("newChat"), () => this.open(null), "icon narrow");
    this.down = iconButton("down", t("toEnd"), () => this.thread.toEnd(), "round down");
    this.down.hidden = true;
    this.welcome = make("div", { className: "welcome" });
    this.said = make("p", { className: "unseen", role: "status" });
    this.heading = make("h1", { className: "unseen" });
    const models = this.library && iconButton("box", t("models"), () => this.library.open());
    const bar = make("header", { className: "bar" }, this.heading, this.menu, this.picker.place, models, make("span", { className: "gap" }), this.meter, this.costs, iconButton("sliders", t("settings"), () => this.#settings()), this.fresh);
    const middle = make("div", { className: "middle" }, this.welcome, this.thread.place, this.down);
    const veil = make("div", { className: "veil", onclick: () => document.body.classList.remove("menu-open") });
    document.body.append(this.sidebar.place, veil, make("main", {}, bar, middle, this.composer.place), this.said);
    this.#showCosts(preferences.costs);
    document.onkeydown = (event) => {
      if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
      if (document.body.classList.contains("menu-open")) document.body.classList.remove("menu-open");
      else this.#stop();
    };
    self.onpagehide = () => this.#save(this.talk);
  }

  #show() {
    const { talk } = this;
    const busy = this.running.has(talk.id);
    const empty = talk.leaf === null;
    this.thread.show(talk);
    this.thread.place.hidden = empty;
    this.welcome.hidden = !empty;
    this.heading.hidden = empty;
    this.heading.textContent = talk.title;
    if (empty) this.#greet();
    document.title = talk.title ? `${talk.title} – llama-bridge` : "llama-bridge";
    const blocked = this.models !== null && (!this.model || this.model.capabilities?.includes("generate") === false);
    this.composer.show({ busy, blocked });
    this.sidebar.show({ heads: [...this.heads.values()], current: talk.id, running: new Set(this.running.keys()) });
    this.#showRoom();
  }

  #greet() {
    const take = (words) => {
      this.composer.write(words);
      this.composer.area.focus();
    };
    this.welcome.replaceChildren(...greeting(t(this.client.flags.near ? "onComputer" : "onServer"), take));
  }

  /** How full the context is, and what keeps the conversation from going on. */
  #showRoom() {
    const notes = [];
    if (this.missing) notes.push(make("p", { className: "missing", role: "alert" }, this.missing, " ", make("button", { type: "button", textContent: t("tryAgain"), onclick: () => this.#findModels() })));
    const usage = talks.pathTo(this.talk).findLast((message) => message.usage)?.usage;
    const share = usage && this.model?.context ? usage.used / this.model.context : null;
    this.meter.textContent = share === null ? "" : t("share", { percent: percent(share) });
    if (share > ALMOST) notes.push(make("p", { textContent: t("almostFull", { percent: percent(share) }) }));
    if (this.model?.capabilities?.includes("generate") === false) notes.push(make("p", { textContent: t("noChat", { model: this.model.id }) }));
    if (this.shelf && !this.shelf.lasting) notes.push(make("p", { textContent: t("notLasting") }));
    this.composer.notes.replaceChildren(...notes);
  }

  #showCosts(shown) {
    preferences.costs = shown;
    savePreferences();
    document.body.classList.toggle("with-costs", shown);
    this.costs.ariaPressed = String(shown);
  }

  // models

  get model() {
    return this.models?.find(({ id }) => id === this.talk.model) ?? null;
  }

  async #findModels() {
    try {
      this.models = await this.client.models();
      await this.library?.refresh().catch(() => {}); // its own view tells what is wrong
      this.missing = null;
    } catch (error) {
      this.models ??= [];
      this.missing = this.#wordsOf(error);
      if (error.kind === "key") this.#askForKey();
      return this.#show();
    }
    this.#useModel();
    this.#show();
  }

  /** A conversation whose model is not here goes on with one that is. */
  #useModel(talk = this.talk) {
    if (!this.models?.length) return;
    const known = (name) => this.models.some(({ id }) => id === name);
    if (!known(talk.model)) {
      const was = talk.model;
      talk.model = known(preferences.model) ? preferences.model : this.models[0].id;
      if (was && talk.leaf !== null) tell(t("otherModel", { was, model: talk.model }));
    }
    this.picker.show(this.models, this.library?.ready ?? [], this.talk.model);
  }

  async #choose(model) {
    if (this.models.some(({ id }) => id === model)) await this.#modelsChanged(model);
    else if (!(await this.library.use(model))) this.#useModel(); // that is told
  }

  /** Others are here, or another one answers. */
  async #modelsChanged(model) {
    if (model) {
      this.talk.model = preferences.model = model;
      savePreferences();
      this.#save(this.talk);
    }
    await this.#findModels();
  }

  #takeModel(file) {
    if (!this.library?.library.takes.files || !isModelFile(file)) return false;
    this.library.add(file);
    return true;
  }

  #askForKey() {
    askForKey((key) => {
      this.client.useKey(key);
      this.#findModels();
    });
  }

  #settings() {
    openSettings(
      { talk: this.talk, model: this.model, language: speak(preferences.language) },
      {
        change: () => this.#save(this.talk),
        language: async (language) => {
          preferences.language = language;
          savePreferences();
          location.reload();
        },
      },
    );
  }

  // conversations

  /** A conversation; null if it was deleted elsewhere, or cannot be had now. */
  async #talk(id) {
    const mine = this.#mine(id);
    if (mine) return mine;
    try {
      const kept = await this.shelf.get(id);
      if (kept) return talks.keptTalk(kept);
      this.heads.delete(id);
    } catch (error) {
      tell(this.#wordsOf(error));
    }
    return null;
  }

  #mine(id) {
    return this.running.get(id)?.talk ?? (this.talk?.id === id ? this.talk : null);
  }

  async #with(id, work) {
    const talk = await this.#talk(id);
    if (talk) await work(talk);
    this.#show();
  }

  async open(id) {
    if (this.talk && this.talk.leaf !== null) this.#save(this.talk);
    const found = id === null ? null : await this.#talk(id);
    this.talk = found ?? talks.newTalk({ model: preferences.model });
    for (const message of Object.values(this.talk.messages)) {
      if (message.state === "writing" && !this.running.has(this.talk.id)) message.state = "interrupted";
    }
    preferences.last = this.talk.leaf === null ? null : this.talk.id;
    savePreferences();
    document.body.classList.remove("menu-open");
    this.#useModel();
    this.#show();
    this.composer.write(this.talk.draft);
    this.composer.area.focus();
  }

  async #save(talk) {
    if (!talk || talk.leaf === null || talk.removed) return;
    this.heads.set(talk.id, headOf(talk));
    await this.shelf.put(talk).catch((error) => tell(this.#wordsOf(error)));
  }

  #change(id, change) {
    return this.#with(id, (talk) => {
      change(talk);
      return this.#save(talk);
    });
  }

  async #changedElsewhere(id) {
    await this.ready; // another window may change one while this one opens
    const kept = await this.shelf.get(id);
    const mine = this.#mine(id);
    if (kept) {
      this.heads.set(id, headOf(kept));
      if (mine) Object.assign(mine, talks.merge(mine, kept), { title: kept.title });
    } else {
      this.heads.delete(id);
      if (mine) {
        mine.removed = true;
        this.running.get(id)?.abort.abort();
        if (this.talk === mine) return this.open(null);
      }
    }
    this.#show();
  }

  #removeTalk(id) {
    return this.#with(id, async (talk) => {
      talk.removed = true;
      this.running.get(id)?.abort.abort();
      try {
        await this.shelf.remove(id);
      } catch (error) {
        delete talk.removed;
        return tell(this.#wordsOf(error));
      }
      this.heads.delete(id);
      if (this.talk.id === id) await this.open(null);
      tell(t("removed"), async () => {
        delete talk.removed;
        await this.#save(talk);
        await this.open(id);
      });
    });
  }

  #session(talk) {
    const ref = talks.pathTo(talk).findLast((message) => message.ref)?.ref ?? null;
    return new SessionView(this.client.sessions, { title: talk.title, ref, name: stemOf(talk) }, async (found) => {
      const loaded = talks.talkOf(found);
      await this.#save(loaded);
      await this.open(loaded.id);
    });
  }

  async #take(file) {
    if (this.client.sessions && isSessionFile(file)) return this.#session({ title: file.name, messages: {}, leaf: null }).load(file);
    try {
      const talk = await readFile(file);
      await this.#save(talk);
      await this.open(talk.id);
    } catch (error) {
      tell(error.message);
    }
  }

  async #fork(message) {
    const talk = talks.forkAt(this.talk, message.id);
    await this.#save(talk);
    await this.open(talk.id);
  }

  #removeMessage(message) {
    const { talk } = this;
    if (this.running.has(talk.id)) return;
    const { id, leaf } = talk;
    const removed = talks.removeBranch(talk, message.id);
    const refs = removed.map(({ ref }) => ref).filter(Boolean);
    const forget = setTimeout(() => this.client.forget(refs), 12_000); // after the way back is gone
    this.#save(talk);
    this.#show();
    tell(t("removed"), () => {
      clearTimeout(forget);
      this.#change(id, (now) => talks.bringBack(now, removed, leaf));
    });
  }

  // questions and answers

  #draft(text) {
    const { talk } = this;
    talk.draft = text;
    clearTimeout(this.saving);
    this.saving = setTimeout(() => this.#save(talk), 500);
  }

  #send(text, files) {
    const { talk } = this;
    talk.draft = "";
    const last = talk.messages[talk.leaf];
    // A question that has no answer gives way to the next: it stays as another version.
    const unanswered = last?.role === "assistant" && !last.text && !last.calls?.length;
    const parent = unanswered ? talk.messages[last.parent].parent : talk.leaf;
    const question = talks.addMessage(talk, parent, { role: "user", text, ...(files.length && { files }) });
    this.thread.following = true;
    this.#answer(talk, question.id);
    this.thread.toEnd();
  }

  #edit(message, view) {
    openEdit(view, (text) => {
      const { talk } = this;
      if (this.running.has(talk.id)) return false;
      const { files } = message;
      const question = talks.addMessage(talk, message.parent, { role: "user", text, ...(files && { files }) });
      this.#answer(talk, question.id);
      return true;
    });
  }

  #stop() {
    this.running.get(this.talk.id)?.abort.abort();
  }

  async #answer(talk, question) {
    if (this.running.has(talk.id)) return;
    const message = talks.addMessage(talk, question, { role: "assistant", text: "", reasoning: "", calls: [], model: talk.model, state: "writing" });
    const abort = new AbortController();
    this.running.set(talk.id, { abort, talk, message });
    preferences.last = talk.id;
    savePreferences();
    this.#save(talk);
    this.#show();
    let saved = performance.now();
    const { system, sampling } = talk;
    const messages = talks.pathTo(talk, question);
    const tellDoing = (progress) => this.talk === talk && this.thread.tellDoing(message, progress);
    try {
      if (!this.models && this.client.flags.starts) tellDoing({ doing: "start" });
      await orAborted(this.finding, abort.signal); // somebody may ask before the models are found
      if (this.missing) await orAborted(this.#findModels(), abort.signal); // perhaps they are there now
      if (this.missing) throw new Trouble("refused", this.missing);
      this.#useModel(talk);
      const { model } = talk;
      const room = this.models.find(({ id }) => id === model)?.context ?? null;
      message.model = model;
      for await (const piece of this.client.ask({ model, system, sampling, messages, signal: abort.signal })) {
        if (piece.kind === "progress") {
          tellDoing(piece);
          continue;
        }
        if (piece.kind === "text") message.text += piece.text;
        else if (piece.kind === "reasoning") message.reasoning += piece.text;
        else if (piece.kind === "call") message.calls.push({ id: piece.id, name: piece.name, arguments: piece.arguments });
        else Object.assign(message, { state: piece.state, usage: { room, ...piece.usage }, ref: piece.ref });
        if (this.talk === talk) this.thread.grow(message);
        if (performance.now() - saved > SAVED_EVERY) {
          saved = performance.now();
          this.#save(talk);
        }
      }
    } catch (error) {
      if (error.name === "AbortError") message.state = "stopped";
      else Object.assign(message, { state: "failed", trouble: this.#wordsOf(error) });
      if (error.kind === "key") this.#askForKey();
    }
    this.running.delete(talk.id);
    talk.changed = Date.now();
    this.#save(talk);
    if (this.talk !== talk) return this.#show();
    this.thread.settle(message);
    this.said.textContent = message.trouble ?? t(message.state === "done" ? "answered" : message.state);
    if (this.model?.capabilities === null) await this.#findModels(); // now it is loaded, and what it can do is known
    this.#show();
  }

  #wordsOf(error) {
    if (!(error instanceof Trouble)) {
      console.error(error);
      return String(error);
    }
    if (error.kind === "full") return `${t("full", { words: error.message })} ${t("fullHint")}`;
    return ["unreachable", "strange"].includes(error.kind) ? t(error.kind) : error.message;
  }
}
