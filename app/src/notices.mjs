// What comes up for a moment: a note that may be taken back, the question for a key, the greeting of an empty conversation; and
// what an error says.
import { isWindow, Trouble } from "./client.mjs";
import { iconButton, make, PICTURE } from "./dom.mjs";
import { t } from "./words.mjs";

/** What an error says to people. */
export function wordsOf(error) {
  if (!(error instanceof Trouble)) {
    console.error(error);
    return String(error);
  }
  if (error.kind === "full") return `${t("full", { words: error.message })} ${t("fullHint")}`;
  if (error.kind === "unreachable") return t(isWindow() ? "windowEnded" : "unreachable");
  return error.kind === "strange" ? t("strange") : error.message;
}

/** Tell something for a while, perhaps with a way to take it back. */
export function tell(words, undo) {
  document.querySelector(".toast")?.remove();
  const toast = make("div", { className: "toast", role: "status" }, make("span", { textContent: words }));
  const leave = () => toast.remove();
  if (undo) toast.append(make("button", { type: "button", textContent: t("undo"), onclick: () => (leave(), undo()) }));
  toast.append(iconButton("close", t("close"), leave));
  document.body.append(toast);
  setTimeout(leave, 10_000);
}

export function askForKey(use) {
  if (document.querySelector("dialog[open]")) return;
  const box = make("input", { id: "key", type: "password", autocomplete: "off", required: true });
  const label = make("label", { id: "key-title", for: "key", textContent: t("apiKey") });
  const form = make("form", { method: "dialog" }, label, box, make("button", { className: "main", textContent: t("useKey") }));
  const dialog = make("dialog", { className: "key", "aria-labelledby": "key-title" }, form);
  form.onsubmit = () => use(box.value.trim());
  dialog.onclose = () => dialog.remove();
  document.body.append(dialog);
  dialog.showModal();
}

/** take(words) is called with the idea that somebody has chosen. */
export function greeting(where, take) {
  const ideas = t("ideas").map(([title, words]) => {
    const parts = [make("b", { textContent: title }), make("span", { textContent: words })];
    return make("button", { type: "button", onclick: () => take(words) }, ...parts);
  });
  const picture = make("img", { src: PICTURE, alt: "", width: 44, height: 44 });
  return [picture, make("h1", { textContent: t("welcome") }), make("p", { textContent: where }), make("div", { className: "ideas" }, ...ideas)];
}
