// Something that takes long: what is done, how far it is, and a button that ends it.
import { iconButton, make } from "./dom.mjs";
import { size, t } from "./words.mjs";

export class JobView {
  /** what: is worked on; name: of it, for people. */
  constructor(what, name) {
    this.what = what;
    this.name = name;
    this.abort = new AbortController();
    this.words = make("span", { textContent: name });
    this.facts = make("span", { className: "facts" });
    this.bar = make("progress", { ariaLabel: name });
    const stop = iconButton("stop", t("stop"), () => this.abort.abort());
    this.place = make("div", { className: "job" }, make("div", { className: "what" }, this.words, this.bar, this.facts), stop);
  }

  /** What the work is given: `how` of client.mjs. */
  get running() {
    return { signal: this.abort.signal, progress: (step) => this.#show(step) };
  }

  #show({ doing, done, total, note }) {
    this.words.textContent = t(`doing_${doing}`, { name: this.name });
    if (total) Object.assign(this.bar, { max: total, value: done });
    else this.bar.removeAttribute("value");
    const counted = total ? t("doneOf", { done: size(done), total: size(total) }) : done ? size(done) : null;
    this.facts.textContent = [counted, note].filter(Boolean).join(" · ");
  }
}
