// What is on the screen: the list, the conversation, the place where a message is written, and the bar above.
import { Composer } from "./composer.mjs";
import { icon, iconButton, make } from "./dom.mjs";
import { greeting } from "./notices.mjs";
import { preferences, savePreferences } from "./preferences.mjs";
import { Sidebar } from "./sidebar.mjs";
import { pathTo } from "./talk.mjs";
import { ThreadView } from "./thread_view.mjs";
import { percent, t } from "./words.mjs";

const ALMOST = 0.8; // of the context

export class Screen {
  /**
   * models: a ModelChoice. on: {conversations, messages, composer: what somebody can do with each, see Sidebar, ThreadView and
   * Composer; settings(); leave(): the page is closed}
   */
  constructor(models, on) {
    Object.assign(this, { models, on });
    this.late = false; // whether a first model is long in coming
    this.sidebar = new Sidebar({ ...on.conversations, settings: on.settings, close: () => this.closeMenu() });
    this.thread = new ThreadView(on.messages);
    this.thread.onscroll = (atEnd) => (this.down.hidden = atEnd);
    this.composer = new Composer(on.composer);
  }

  /** flags: of the host. */
  build(flags) {
    this.where = t(flags.near ? "onComputer" : "onServer");
    if (flags.starts) this.models.picker.wait(t("doing_start"));
    this.down = iconButton("down", t("toEnd"), () => this.thread.toEnd(), "round down");
    this.down.hidden = true;
    this.welcome = make("div", { className: "welcome" });
    this.said = make("p", { className: "unseen", role: "status" });
    const middle = make("div", { className: "middle" }, this.welcome, this.thread.place, this.down);
    const veil = make("div", { className: "veil", onclick: () => this.closeMenu() });
    document.body.replaceChildren(this.sidebar.place, veil, make("main", {}, this.#bar(), middle, this.composer.place), this.said);
    this.#showCosts(preferences.costs);
    document.onkeydown = (event) => {
      if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
      if (document.body.classList.contains("menu-open")) this.closeMenu();
      else this.on.composer.stop();
    };
    self.onpagehide = () => this.on.leave();
  }

  #bar() {
    const { picker, library } = this.models;
    this.heading = make("h1", { className: "unseen" });
    this.meter = make("span", { className: "meter" });
    this.costs = make("button", { type: "button", id: "costs", className: "icon", title: t("costsHint"), ariaLabel: t("costs"), onclick: () => this.#showCosts(!preferences.costs) }, icon("gauge"));
    const menu = iconButton("menu", t("openMenu"), () => document.body.classList.add("menu-open"), "icon narrow");
    const models = library && iconButton("box", t("models"), () => library.open());
    const settings = iconButton("sliders", t("settings"), () => this.on.settings());
    const create = iconButton("plus", t("newChat"), () => this.on.conversations.create(), "icon narrow");
    return make("header", { className: "bar" }, this.heading, menu, picker.place, models, make("span", { className: "gap" }), this.meter, this.costs, settings, create);
  }

  closeMenu() {
    document.body.classList.remove("menu-open");
  }

  #showCosts(shown) {
    preferences.costs = shown;
    savePreferences();
    document.body.classList.toggle("with-costs", shown);
    this.costs.ariaPressed = String(shown);
  }

  /** talk: the one that is open; heads: those in the list, by their ids; running: of an Answering; lasting: of the shelf. */
  show({ talk, heads, running, lasting }) {
    const empty = talk.leaf === null;
    this.thread.show(talk);
    this.thread.place.hidden = empty;
    this.welcome.hidden = !empty;
    this.heading.hidden = empty;
    this.heading.textContent = talk.title;
    if (empty) this.#greet();
    document.title = talk.title ? `${talk.title} – llama-bridge` : "llama-bridge";
    const model = this.models.of(talk);
    const blocked = this.models.all !== null && (!model || !chats(model));
    this.composer.show({ busy: running.has(talk.id), blocked });
    this.sidebar.show({ heads: [...heads.values()], current: talk.id, running: new Set(running.keys()) });
    this.#showNotes(talk, model, lasting);
  }

  #greet() {
    const take = (words) => {
      this.composer.write(words);
      this.composer.area.focus();
    };
    this.welcome.replaceChildren(...greeting(this.where, take));
  }

  /** How full the context is, and what keeps the conversation from going on. */
  #showNotes(talk, model, lasting) {
    const { missing } = this.models;
    const notes = [];
    if (this.late) notes.push(make("p", { role: "status", textContent: t("late") }));
    if (missing) notes.push(make("p", { className: "missing", role: "alert" }, missing, " ", make("button", { type: "button", textContent: t("tryAgain"), onclick: () => this.models.find() })));
    const usage = pathTo(talk).findLast((message) => message.usage)?.usage;
    const share = usage && model?.context ? usage.used / model.context : null;
    this.meter.textContent = share === null ? "" : t("share", { percent: percent(share) });
    if (share > ALMOST) notes.push(make("p", { textContent: t("almostFull", { percent: percent(share) }) }));
    if (model && !chats(model)) notes.push(make("p", { textContent: t("noChat", { model: model.id }) }));
    if (!lasting) notes.push(make("p", { textContent: t("notLasting") }));
    this.composer.notes.replaceChildren(...notes);
  }

  /** An answer of the open conversation has ended. */
  tellEnd(message) {
    this.thread.settle(message);
    this.said.textContent = message.trouble ?? t(message.state === "done" ? "answered" : message.state);
  }
}

const chats = ({ capabilities }) => capabilities?.includes("generate") !== false;
