// The dialog of a conversation's session: what of it is in the KV cache, files of it that are saved, loaded and verified, and how
// the conversation goes on in another place.
import { Trouble } from "./client.mjs";
import { closedBeside, downloadBlob, icon, iconButton, isWebAddress, make } from "./dom.mjs";
import { JobView } from "./job_view.mjs";
import { wordsOf } from "./notices.mjs";
import { checkWords } from "./session_words.mjs";
import { number, size, t } from "./words.mjs";

export const isSessionFile = ({ name }) => /\.session$/i.test(name);

/**
 * sessions: see client.mjs; null where there are none. title: of the conversation; ref: of the answer that it ends with, or
 * null; name: what its file is called; otherServer: an address, or "". on: {take(found): a session was loaded; messages():
 * the messages are to be saved}
 */
export class SessionView {
  constructor(sessions, { title, ref, name, otherServer }, on) {
    Object.assign(this, { sessions, ref, name, on });
    this.troubles = make("div", { className: "troubles" });
    this.facts = make("p", { textContent: t(sessions ? "sessionLooks" : "sessionNone") });
    const head = make("h2", { id: "session-title", textContent: t("session") });
    const close = iconButton("close", t("close"), () => this.dialog.close());
    this.dialog = make(
      "dialog",
      { className: "session", "aria-labelledby": "session-title" },
      make("div", { className: "head" }, head, close),
      make("p", { className: "facts", dir: "auto", textContent: title }),
      this.troubles,
      this.facts,
      sessions && this.#files(),
      make("h3", { textContent: t("otherPlace") }),
      this.#otherPlace(otherServer),
    );
    closedBeside(this.dialog);
    this.dialog.onclose = () => this.dialog.remove();
  }

  #files() {
    this.saving = make("button", { type: "button", className: "main", disabled: true, onclick: () => this.#save() }, t("saveSession"));
    const loading = pickButton("loadSession", (file) => this.load(file));
    const checking = pickButton("checkSession", (file) => this.#check(file));
    return make("div", { className: "beside" }, this.saving, ...loading, ...checking);
  }

  /** This page connects to no other server: a person takes the file there. */
  #otherPlace(address) {
    const file = make("p", { textContent: t(this.sessions ? "otherPlaceFile" : "otherPlaceMessages") });
    const messages = make("button", { type: "button", onclick: () => this.#saveMessages() }, t("saveMessages"));
    const link = isWebAddress(address)
      ? make("a", { href: address, target: "_blank", rel: "noopener noreferrer", textContent: t("openOther", { address }) })
      : make("span", { textContent: t("noOther") });
    return make("ol", { className: "steps" }, make("li", {}, file, messages), make("li", {}, link), make("li", { textContent: t("otherPlaceTake") }));
  }

  #saveMessages() {
    this.on.messages();
    this.#say(t("messagesSaved", { name: `${this.name}.json` }));
  }

  async open() {
    document.body.append(this.dialog);
    this.dialog.showModal();
    if (!this.sessions) return;
    if (!this.ref) return this.#show(null);
    try {
      this.#show(await this.sessions.facts(this.ref));
    } catch (error) {
      this.#trouble(error);
    }
  }

  #show(found) {
    this.saving.disabled = !found?.saves;
    if (!found) this.facts.textContent = t("sessionGone");
    else this.facts.textContent = t(found.saves ? "sessionHere" : "sessionStays", { n: number(found.tokens) });
  }

  async #save() {
    await this.#try(async () => {
      const blob = await this.sessions.save(this.ref);
      downloadBlob(`${this.name}.session`, blob);
      this.#say(t("sessionSaved", { name: `${this.name}.session`, size: size(blob.size) }));
    });
  }

  /** Load one from a file; again: what does not fit here is read again. */
  async load(file, again = false) {
    const found = await this.#work(file, (running) => this.sessions.load(file, { again, ...running }), () => this.load(file, true));
    if (!found) return;
    this.dialog.close();
    await this.on.take(found);
  }

  async #check(file) {
    const found = await this.#work(file, (running) => this.sessions.check(file, running));
    if (!found) return;
    const words = checkWords(found, file.name);
    if (found.ok) this.#say(words);
    else this.#showTrouble(words, null);
  }

  /** Do something that takes long with a file; returns what it returns, or undefined if it failed or was stopped, which is told. */
  async #work(file, work, again) {
    if (!this.dialog.isConnected) {
      document.body.append(this.dialog);
      this.dialog.showModal();
    }
    const job = new JobView(file, file.name);
    this.troubles.replaceChildren(job.place);
    const found = await this.#try(() => work(job.running), again);
    job.place.remove();
    return found;
  }

  async #try(work, again) {
    try {
      return await work();
    } catch (error) {
      if (error.name !== "AbortError") this.#trouble(error, again);
    }
  }

  #trouble(error, again) {
    if (!(error instanceof Trouble)) throw error;
    const words = wordsOf(error);
    this.#showTrouble(words, error.kind === "mismatch" && again ? make("button", { type: "button", textContent: t("readAgain"), onclick: again }) : null);
  }

  #showTrouble(words, button) {
    this.troubles.replaceChildren(make("div", { className: "trouble", role: "alert" }, make("p", { textContent: words }), button));
  }

  #say(words) {
    this.troubles.replaceChildren(make("p", { className: "said", role: "status" }, icon("check"), words));
  }
}

/** A button that opens a file, and the field behind it. */
function pickButton(name, take) {
  const picker = make("input", { type: "file", accept: ".session", hidden: true, ariaLabel: t(name) });
  picker.onchange = () => {
    if (picker.files.length) take(picker.files[0]);
    picker.value = "";
  };
  return [make("button", { type: "button", onclick: () => picker.click() }, t(name)), picker];
}
