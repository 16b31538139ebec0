// Where a message is written: Enter sends, Shift and Enter begins a line, files can be attached or dropped.
import { icon, iconButton, make } from "./dom.mjs";
import { readAttachment } from "./files.mjs";
import { t } from "./words.mjs";

/** An area that grows with what is written. */
export function growing(area) {
  const fit = () => {
    area.style.height = "auto";
    area.style.height = `${area.scrollHeight}px`;
  };
  area.addEventListener("input", fit);
  requestAnimationFrame(fit);
  return fit;
}

export const isSend = (event) => event.key === "Enter" && !event.shiftKey && !event.isComposing;

export class Composer {
  files = [];

  /** on: {send(text, files), stop(), draft(text, files): not sent yet, trouble(words), others(files) -> those that are to be attached} */
  constructor(on) {
    this.on = on;
    this.area = make("textarea", { id: "prompt", rows: 1, ariaLabel: t("message"), placeholder: t("writeMessage"), autocomplete: "off", dir: "auto" });
    this.fit = growing(this.area);
    this.chips = make("div", { className: "chips" });
    this.picker = make("input", { type: "file", multiple: true, hidden: true, onchange: () => this.#take(this.picker.files) });
    const attach = iconButton("clip", t("attach"), () => this.picker.click());
    this.sendButton = make("button", { className: "round", id: "send", ariaLabel: t("send"), title: t("send") }, icon("send"));
    this.stopButton = iconButton("stop", t("stop"), () => on.stop(), "round");
    this.stopButton.id = "stop";
    this.notes = make("div", { className: "notes" });
    const row = make("div", { className: "row" }, attach, this.picker, this.area, this.sendButton, this.stopButton);
    this.form = make("form", { className: "composer" }, this.chips, row);
    this.place = make("div", { className: "dock" }, this.notes, this.form);
    this.form.onsubmit = (event) => {
      event.preventDefault();
      this.#send();
    };
    this.area.onkeydown = (event) => {
      if (!isSend(event)) return;
      event.preventDefault();
      this.#send();
    };
    this.area.oninput = () => {
      this.#refresh();
      this.#draft();
    };
    this.#dropHere();
    this.show({});
  }

  #dropHere() {
    document.addEventListener("dragover", (event) => {
      event.preventDefault();
      this.form.classList.add("over");
    });
    document.addEventListener("dragleave", ({ relatedTarget }) => relatedTarget ?? this.form.classList.remove("over"));
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      this.form.classList.remove("over");
      this.#take(event.dataTransfer.files);
    });
  }

  #draft() {
    this.on.draft(this.area.value, this.files);
  }

  async #take(files) {
    for (const file of this.on.others([...files])) {
      try {
        this.files = [...this.files, await readAttachment(file)];
      } catch (error) {
        this.on.trouble(error.message);
      }
    }
    this.picker.value = "";
    this.#showFiles();
    this.#draft();
    this.area.focus();
  }

  #showFiles() {
    const chips = this.files.map((file) => {
      const leave = iconButton("close", t("detach", { name: file.name }), () => {
        this.files = this.files.filter((one) => one !== file);
        this.#showFiles();
        this.#draft();
        this.area.focus();
      });
      return make("span", { className: "chip" }, make("span", { textContent: file.name }), leave);
    });
    this.chips.replaceChildren(...chips);
    this.#refresh();
  }

  #refresh() {
    this.sendButton.disabled = this.blocked || !(this.area.value.trim() || this.files.length);
  }

  #send() {
    const text = this.area.value.trim();
    if (this.busy || this.sendButton.disabled) return;
    const { files } = this;
    this.write("", []);
    this.on.send(text, files);
  }

  /** Put words into it, and files. */
  write(text, files = this.files) {
    this.area.value = text;
    this.files = files;
    this.fit();
    this.#showFiles();
  }

  /** busy: an answer is being written; blocked: nothing can be asked now. */
  show({ busy = false, blocked = false }) {
    const hadFocus = [this.sendButton, this.stopButton].includes(document.activeElement);
    Object.assign(this, { busy, blocked });
    this.sendButton.hidden = busy;
    this.stopButton.hidden = !busy;
    this.#refresh();
    if (hadFocus) this.area.focus();
  }
}
