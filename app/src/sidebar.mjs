// The list of conversations: search, rename, export, import, delete.
import { icon, iconButton, make, PICTURE } from "./dom.mjs";
import { tell, wordsOf } from "./notices.mjs";
import { number, t } from "./words.mjs";

const DAY = 86_400_000;
const STEP = 200; // conversations that are listed at once
const PAUSE = 150; // milliseconds after the last letter: to search, all that was said is read

function groupOf(changed) {
  const days = Math.max(0, Math.floor((new Date().setHours(24, 0, 0, 0) - changed) / DAY)); // clocks are set back
  return t(["today", "yesterday"][days] ?? (days < 8 ? "week" : "older"));
}

export class Sidebar {
  heads = [];
  running = new Set();
  listed = STEP;

  /** on: {open(id), create(), find(words) -> ids, rename(id, title), remove(id), markdown(id), json(id), session(id), take(file), settings(), close()} */
  constructor(on) {
    this.on = on;
    this.list = make("div", { className: "talks" });
    this.search = make("input", { type: "search", placeholder: t("search"), ariaLabel: t("search"), oninput: () => this.#find() });
    this.picker = make("input", { type: "file", accept: ".json,.session", hidden: true });
    this.picker.onchange = () => {
      if (this.picker.files.length) on.take(this.picker.files[0]);
      this.picker.value = "";
    };
    const brand = make("span", { className: "brand" }, make("img", { src: PICTURE, alt: "", width: 22, height: 22 }), "llama-bridge");
    const close = iconButton("close", t("closeMenu"), () => on.close(), "icon narrow");
    const create = make("button", { type: "button", id: "new", className: "wide", onclick: () => on.create() }, icon("plus"), t("newChat"));
    const take = make("button", { type: "button", className: "quiet", onclick: () => this.picker.click() }, icon("into"), t("importTalk"));
    const settings = make("button", { type: "button", className: "quiet", onclick: () => on.settings() }, icon("sliders"), t("settings"));
    this.place = make(
      "nav",
      { className: "sidebar", id: "sidebar", ariaLabel: t("conversations") },
      make("div", { className: "head" }, brand, close),
      create,
      make("div", { className: "search" }, icon("search"), this.search),
      this.list,
      make("div", { className: "tail" }, take, this.picker, settings),
    );
  }

  show({ heads = this.heads, current = this.current, running = this.running }) {
    Object.assign(this, { heads, current, running });
    this.#lay();
  }

  #find() {
    clearTimeout(this.finding);
    this.finding = setTimeout(async () => {
      const words = this.search.value.trim();
      const found = words ? await this.on.find(words).catch((error) => tell(wordsOf(error))) : null;
      if (words !== this.search.value.trim()) return; // somebody has typed on
      this.found = found;
      this.#lay();
    }, PAUSE);
  }

  #lay() {
    this.late = this.list.querySelector("li > input, details[open]") !== null; // somebody is at work there
    if (this.late) return;
    const heads = this.heads.filter(({ id }) => this.found?.has(id) ?? true).sort((a, b) => b.changed - a.changed);
    const parts = [];
    let group;
    let list;
    for (const head of heads.slice(0, this.listed)) {
      if (groupOf(head.changed) !== group) {
        group = groupOf(head.changed);
        list = make("ul");
        parts.push(make("h2", { textContent: group }), list);
      }
      list.append(this.#row(head));
    }
    const older = heads.length - this.listed;
    if (older > 0) parts.push(make("button", { type: "button", className: "quiet", textContent: t("olderTalks", { n: number(older) }), onclick: () => this.#showOlder() }));
    if (!parts.length) parts.push(make("p", { className: "none", textContent: t(this.found ? "noneFound" : "noneYet") }));
    this.list.replaceChildren(...parts);
  }

  #showOlder() {
    const { length } = this.list.querySelectorAll("li");
    this.listed += STEP;
    this.#lay();
    this.list.querySelectorAll(".open")[length]?.focus();
  }

  #row(head) {
    const title = head.title || t("untitled");
    const open = make("button", { type: "button", className: "open", dir: "auto", textContent: title, title, onclick: () => this.on.open(head.id) });
    if (head.id === this.current) open.setAttribute("aria-current", "true");
    const more = make("summary", { ariaLabel: t("more", { title }), title: t("more", { title }) }, make("span", { textContent: "⋯", ariaHidden: "true" }));
    const menu = make("div", { className: "menu" });
    const details = make("details", {}, more, menu);
    const item = make("li", { className: this.running.has(head.id) ? "busy" : "" }, open, details);
    const choices = {
      rename: () => this.#rename(item, head),
      exportMarkdown: () => this.on.markdown(head.id),
      exportJson: () => this.on.json(head.id),
      sessionOf: () => this.on.session(head.id),
      remove: () => this.on.remove(head.id),
    };
    const icons = { rename: "edit", exportMarkdown: "out", exportJson: "out", sessionOf: "box", remove: "bin" };
    for (const [name, work] of Object.entries(choices)) {
      const choose = () => {
        details.open = false;
        work();
      };
      menu.append(make("button", { type: "button", onclick: choose }, icon(icons[name]), t(name)));
    }
    details.ontoggle = () => {
      if (details.open) menu.scrollIntoView({ block: "nearest" });
      else if (this.late) this.#lay();
    };
    details.addEventListener("focusout", ({ relatedTarget }) => {
      if (!details.contains(relatedTarget)) details.open = false;
    });
    details.onkeydown = (event) => {
      if (event.key !== "Escape" || !details.open) return;
      event.stopPropagation();
      details.open = false;
      more.focus();
    };
    return item;
  }

  #rename(item, { id, title }) {
    const box = make("input", { value: title, ariaLabel: t("title"), maxLength: 200 });
    let over = false;
    const end = (kept) => {
      if (over) return;
      over = true;
      box.remove();
      if (kept && box.value.trim()) this.on.rename(id, box.value.trim());
      else this.#lay();
    };
    box.onkeydown = (event) => {
      if (event.key === "Enter" && !event.isComposing) end(true);
      if (event.key === "Escape") {
        event.stopPropagation();
        end(false);
      }
    };
    box.onblur = () => end(true);
    item.replaceChildren(box);
    box.select();
  }
}
