// The messages of the conversation that is open. Of a long one only the end is laid out until somebody scrolls up.
import { make } from "./dom.mjs";
import { MessageView } from "./message_view.mjs";
import { childrenOf, pathTo } from "./talk.mjs";
import { number, t } from "./words.mjs";

const STEP = 40; // messages that are laid out at once
const MOST = 200_000; // characters of them; a question with its answer may have more
const NEAR = 60; // pixels from the end at which the view goes on with it

export class ThreadView {
  constructor(actions) {
    this.actions = actions;
    this.list = make("ol", { className: "thread" });
    this.earlier = make("button", { type: "button", className: "earlier", onclick: () => this.#showEarlier() });
    this.place = make("div", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: t("conversation") }, this.earlier, this.list);
    this.views = new Map();
    this.place.onscroll = () => {
      this.following = this.#isAtEnd();
      this.onscroll?.(this.following);
    };
    new IntersectionObserver((seen) => seen.at(-1).isIntersecting && this.#showEarlier(), { root: this.place }).observe(this.earlier);
  }

  #isAtEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.place;
    return scrollHeight - scrollTop - clientHeight < NEAR;
  }

  toEnd() {
    this.following = true;
    this.place.scrollTop = this.place.scrollHeight;
  }

  /** Show a conversation, or what has changed in it. */
  show(talk) {
    const isNew = this.talk?.id !== talk.id;
    this.talk = talk;
    this.path = pathTo(talk);
    if (isNew) {
      this.views.clear();
      this.from = this.#startBefore(this.path.length);
    }
    this.from = Math.min(this.from, Math.max(0, this.path.length - 1));
    this.#lay();
    if (isNew) this.toEnd();
  }

  #lay() {
    const shown = this.path.slice(this.from);
    const views = new Map();
    for (const message of shown) {
      let view = this.views.get(message.id);
      if (view?.message !== message) view = new MessageView(message, this.actions);
      view.settle(childrenOf(this.talk, message.parent).map(({ id }) => id));
      views.set(message.id, view);
    }
    this.views = views;
    const items = [...views.values()].map(({ item }) => item);
    for (const item of [...this.list.children]) if (!items.includes(item)) item.remove();
    items.forEach((item, i) => {
      if (this.list.children[i] !== item) this.list.insertBefore(item, this.list.children[i] ?? null);
    });
    this.earlier.hidden = this.from === 0;
    this.earlier.textContent = t("shownTo", { n: number(this.from) });
  }

  #startBefore(end) {
    let from = end;
    for (let letters = 0; from > 0 && end - from < (letters < MOST ? STEP : 2); ) letters += this.path[--from].text.length;
    return from;
  }

  #showEarlier() {
    if (!this.from) return;
    const before = this.place.scrollHeight - this.place.scrollTop;
    this.from = this.#startBefore(this.from);
    this.#lay();
    this.place.scrollTop = this.place.scrollHeight - before;
  }

  /** What is done before an answer begins: see the pieces of client.mjs. */
  tellDoing(message, progress) {
    this.views.get(message.id)?.tellDoing(progress);
    if (this.following) this.place.scrollTop = this.place.scrollHeight;
  }

  /** More of an answer is there: it is shown with the next picture, and not more often than the page can. */
  grow(message) {
    if (this.waiting || !this.views.has(message.id)) return;
    this.waiting = true;
    setTimeout(() => requestAnimationFrame(() => this.#write(message)), this.pause ?? 0);
  }

  #write(message) {
    this.waiting = false;
    const view = this.views.get(message.id);
    if (view?.message !== message || message.state !== "writing") return;
    const took = view.grow();
    this.pause = took > 8 ? 3 * took : 0;
    if (this.following) this.place.scrollTop = this.place.scrollHeight;
  }

  /** An answer has ended. */
  settle(message) {
    this.views.get(message.id)?.settle(childrenOf(this.talk, message.parent).map(({ id }) => id));
    if (this.following) this.place.scrollTop = this.place.scrollHeight;
  }
}
