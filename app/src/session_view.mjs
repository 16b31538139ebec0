// The dialog of a conversation's session: what of it is in the KV cache, and the file that it goes to another place in.
import { Trouble } from "./client.mjs";
import { closedBeside, downloadBlob, icon, iconButton, make } from "./dom.mjs";
import { JobView } from "./job_view.mjs";
import { number, size, t } from "./words.mjs";

export const isSessionFile = ({ name }) => /\.session$/i.test(name);

/**
 * title: of the conversation; ref: of the answer that it ends with, or null; sessions: see client.mjs;
 * name: what its file is called; take(found): a session was loaded.
 */
export class SessionView {
  constructor(sessions, { title, ref, name }, take) {
    Object.assign(this, { sessions, ref, name, take });
    this.troubles = make("div", { className: "troubles" });
    this.facts = make("p", { textContent: t("sessionLooks") });
    this.saving = make("button", { type: "button", className: "main", disabled: true, onclick: () => this.#save() }, t("saveSession"));
    const picker = make("input", { type: "file", accept: ".session", hidden: true });
    picker.onchange = () => {
      if (picker.files.length) this.load(picker.files[0]);
      picker.value = "";
    };
    const loading = make("button", { type: "button", onclick: () => picker.click() }, t("loadSession"));
    const head = make("h2", { id: "session-title", textContent: t("session") });
    const close = iconButton("close", t("close"), () => this.dialog.close());
    this.dialog = make(
      "dialog",
      { className: "session", "aria-labelledby": "session-title" },
      make("div", { className: "head" }, head, close),
      make("p", { className: "facts", dir: "auto", textContent: title }),
      this.troubles,
      this.facts,
      make("div", { className: "beside" }, this.saving, loading, picker),
      make("h3", { textContent: t("otherPlace") }),
      make("p", { className: "facts", textContent: t("otherPlaceHint") }),
    );
    closedBeside(this.dialog);
    this.dialog.onclose = () => this.dialog.remove();
  }

  async open() {
    document.body.append(this.dialog);
    this.dialog.showModal();
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
    if (!this.dialog.isConnected) {
      document.body.append(this.dialog);
      this.dialog.showModal();
    }
    const job = new JobView(file, file.name);
    this.troubles.replaceChildren(job.place);
    await this.#try(async () => {
      const found = await this.sessions.load(file, { again, ...job.running });
      this.dialog.close();
      await this.take(found);
    }, () => this.load(file, true));
    job.place.remove();
  }

  async #try(work, again) {
    try {
      await work();
    } catch (error) {
      if (error.name !== "AbortError") this.#trouble(error, again);
    }
  }

  #trouble(error, again) {
    if (!(error instanceof Trouble)) throw error;
    const words = error.kind === "unreachable" ? t("unreachable") : error.message;
    const button = error.kind === "mismatch" && again ? make("button", { type: "button", textContent: t("readAgain"), onclick: again }) : null;
    this.troubles.replaceChildren(make("div", { className: "trouble", role: "alert" }, make("p", { textContent: words }), button));
  }

  #say(words) {
    this.troubles.replaceChildren(make("p", { className: "said", role: "status" }, icon("check"), words));
  }
}
