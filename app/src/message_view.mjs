// One message of a conversation: what was said, what it cost, and what can be done with it.
import { codeBlock } from "./code.mjs";
import { copyText, done, iconButton, make } from "./dom.mjs";
import { show } from "./markdown.mjs";
import { progressWords } from "./progress.mjs";
import { number, percent, t } from "./words.mjs";

/** actions: {again, edit, fork, remove, turn, retry}, each called with the message, turn also with the other branch's id. */
export class MessageView {
  constructor(message, actions) {
    this.message = message;
    this.actions = actions;
    this.mine = message.role === "user";
    const name = make("h2", { className: "unseen", textContent: t(this.mine ? "you" : "model") });
    this.words = make("div", { className: "words" });
    this.extras = make("div", { className: "extras" });
    this.foot = make("div", { className: "foot" });
    this.body = make("div", { className: "body" }, this.words, this.extras);
    this.item = make("li", { className: this.mine ? "turn mine" : "turn" }, name, this.body, this.foot);
    this.item.dataset.id = message.id;
    if (this.mine) this.#showQuestion();
  }

  #showQuestion() {
    const { text, files = [] } = this.message;
    this.words.dir = "auto";
    this.words.textContent = text;
    this.words.hidden = !text;
    for (const file of files) {
      const summary = make("summary", { textContent: file.name });
      this.extras.append(make("details", { className: "file" }, summary, codeBlock(file.text)));
    }
  }

  /** Show what is done before the answer begins. */
  tellDoing(progress) {
    const { done, total } = progress;
    const words = progressWords(progress);
    const bar = total ? make("progress", { max: 1, value: done / total, ariaLabel: words }) : "";
    this.doing ??= this.body.appendChild(make("div", { className: "doing" }));
    this.doing.replaceChildren(make("p", { textContent: words }), bar);
  }

  /** Show what there is by now. Returns how many milliseconds that took. */
  grow() {
    const start = performance.now();
    const { text, reasoning, state } = this.message;
    const writing = state === "writing";
    this.item.classList.toggle("writing", writing);
    if (reasoning) this.#showThoughts(reasoning, writing && !text);
    if (text || reasoning || !writing) {
      this.doing?.remove();
      this.doing = null;
    }
    const shown = asCode(text, writing);
    if (this.shown !== shown) show(this.words, shown);
    this.shown = shown;
    this.words.classList.toggle("waiting", writing && !text && !reasoning);
    return performance.now() - start;
  }

  #showThoughts(reasoning, open) {
    if (!this.thoughts) {
      this.thoughtWords = make("div", { className: "words" });
      this.thoughtTitle = make("summary");
      this.thoughts = make("details", { className: "thoughts" }, this.thoughtTitle, this.thoughtWords);
      this.body.prepend(this.thoughts);
    }
    this.thoughtTitle.textContent = t(open ? "thinking" : "thoughts");
    if (this.thoughtsShown !== reasoning) show(this.thoughtWords, reasoning);
    this.thoughtsShown = reasoning;
  }

  /** Show all of it. branches: the ids of the messages that stand in this place, this one among them. */
  settle(branches) {
    if (!this.mine) {
      this.grow();
      this.extras.replaceChildren(...this.#calls(), ...this.#ending());
    }
    this.foot.replaceChildren(...(this.message.state === "writing" ? [] : this.#buttons(branches)));
  }

  #calls() {
    return (this.message.calls ?? []).map((call) => {
      const name = make("p", { className: "call", textContent: t("calls", { name: call.name }) });
      return make("div", {}, name, codeBlock(pretty(call.arguments) ?? call.arguments, "json"));
    });
  }

  #ending() {
    const { state, trouble, usage } = this.message;
    const parts = [];
    if (trouble) {
      const again = make("button", { type: "button", textContent: t("tryAgain"), onclick: () => this.actions.retry(this.message) });
      parts.push(make("div", { className: "trouble", role: "alert" }, make("p", { textContent: trouble }), again));
    } else if (state === "cut" || state === "stopped" || state === "interrupted") {
      parts.push(make("p", { className: "ending", textContent: t(state) }));
    }
    if (usage) parts.push(make("p", { className: "cost", textContent: costOf(usage) }));
    return parts;
  }

  #buttons(branches) {
    const { message, actions } = this;
    const copy = iconButton("copy", t("copy"), () => copyText(message.text).then(() => done(copy)));
    copy.append(iconButton("check", "", null).firstChild);
    copy.classList.add("copies");
    const buttons = [copy];
    if (this.mine) buttons.push(iconButton("edit", t("edit"), () => actions.edit(message, this)));
    else buttons.push(iconButton("again", t("again"), () => actions.again(message)));
    if (!this.mine) buttons.push(iconButton("fork", t("fork"), () => actions.fork(message)));
    buttons.push(iconButton("bin", t("remove"), () => actions.remove(message)));
    return branches.length > 1 ? [this.#turner(branches), ...buttons] : buttons;
  }

  #turner(branches) {
    const at = branches.indexOf(this.message.id);
    const to = (i) => () => this.actions.turn(this.message, branches[i]);
    const earlier = iconButton("back", t("earlierVersion"), to(at - 1));
    const later = iconButton("on", t("laterVersion"), to(at + 1));
    earlier.disabled = at === 0;
    later.disabled = at === branches.length - 1;
    const words = t("versions", { at: at + 1, all: branches.length });
    const place = make("span", { textContent: `${at + 1}/${branches.length}`, ariaLabel: words, role: "img" });
    return make("span", { className: "turner" }, earlier, place, later);
  }
}

const MOST_JSON = 100_000; // characters

/** An answer that is JSON as a whole is shown as such. */
function asCode(text, writing) {
  if (writing || text.length > MOST_JSON || !/^\s*[[{][^]*[\]}]\s*$/.test(text)) return text;
  const better = pretty(text);
  return better === null ? text : `\`\`\`json\n${better}\n\`\`\``;
}

function pretty(text) {
  try {
    const better = JSON.stringify(JSON.parse(text), null, 2);
    return better.length < 20 * text.length ? better : null; // indentation grows with the square of the depth
  } catch {
    return null;
  }
}

export function costOf({ cached, evaluated, written, speed, used, room, mode, fallback }) {
  const parts = [t("cost", { cached: number(cached), evaluated: number(evaluated), written: number(written) })];
  if (speed) parts.push(t("speed", { speed: number(speed) }));
  if (room) parts.push(t("share", { percent: percent(used / room) }));
  if (mode === "continued" || fallback) parts.push(t(mode));
  if (fallback) parts.push(fallback);
  return parts.join(" · ");
}
