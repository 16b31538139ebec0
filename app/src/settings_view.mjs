// The dialog of settings: those of this conversation, and those of all.
import { aboutView } from "./about_view.mjs";
import { closedBeside, iconButton, isWebAddress, make } from "./dom.mjs";
import { wordsOf } from "./notices.mjs";
import { LANGUAGES, t } from "./words.mjs";

// The fields of the request, each with its bounds.
const NUMBERS = [
  ["temperature", "temperature", { min: 0, max: 5, step: 0.05 }, "temperatureHint"],
  ["top_p", "topP", { min: 0, max: 1, step: 0.01 }, "topPHint"],
  ["max_output_tokens", "mostTokens", { min: 1, step: 1 }],
  ["seed", "seed", { min: 0, step: 1 }, "seedHint"],
];

function field(label, control, hint) {
  control.id = `set-${label}`;
  const parts = [make("label", { for: control.id, textContent: t(label) }), control];
  if (hint) {
    parts.push(make("p", { id: `${control.id}-hint`, textContent: t(hint) }));
    control.setAttribute("aria-describedby", `${control.id}-hint`);
  }
  return make("div", { className: "field" }, ...parts);
}

/**
 * otherServer: an address, or ""; about: a promise of what the model can do, see client.mjs. on: {change(): the talk has
 * changed; language(name), otherServer(address)}
 */
export function openSettings({ talk, model, about, language, otherServer }, on) {
  const dialog = make("dialog", { className: "settings", "aria-labelledby": "settings-title" });
  const system = make("textarea", { rows: 4, value: talk.system, dir: "auto" });
  system.oninput = () => {
    talk.system = system.value;
    on.change();
  };
  const numbers = NUMBERS.map(([name, label, bounds, hint]) => {
    const box = make("input", { type: "number", value: talk.sampling[name] ?? "", placeholder: t("asModel"), ...bounds });
    box.oninput = () => {
      const wrong = box.value !== "" && !box.checkValidity();
      box.setAttribute("aria-invalid", String(wrong));
      if (wrong) return;
      if (box.value === "") delete talk.sampling[name];
      else talk.sampling[name] = Number(box.value);
      on.change();
    };
    return field(label, box, hint);
  });
  const tongue = make("select", {}, ...Object.entries(LANGUAGES).map(([id, name]) => make("option", { value: id, textContent: name, lang: id })));
  tongue.value = language;
  tongue.onchange = () => on.language(tongue.value);
  const address = make("input", { type: "url", value: otherServer, placeholder: "http://192.168.0.2:8080", autocomplete: "off", spellcheck: false });
  address.oninput = () => {
    const found = address.value.trim();
    const wrong = found !== "" && !isWebAddress(found);
    address.setAttribute("aria-invalid", String(wrong));
    if (!wrong) on.otherServer(found);
  };
  const title = make("h2", { id: "settings-title", textContent: t("settings") });
  const close = iconButton("close", t("close"), () => dialog.close());
  dialog.append(
    make("div", { className: "head" }, title, close),
    make("h3", { textContent: t("forThisTalk") }),
    field("system", system, "systemHint"),
    make("div", { className: "two" }, ...numbers),
    make("h3", { textContent: t("forAll") }),
    field("language", tongue),
    field("serverElsewhere", address, "serverElsewhereHint"),
    ...(model ? [aboutModel(model, about)] : []),
  );
  closedBeside(dialog);
  dialog.onclose = () => dialog.remove();
  document.body.append(dialog);
  dialog.showModal();
}

/** What is told of the model, as soon as the host has said it. */
function aboutModel({ id }, about) {
  const place = make("div", { className: "about" });
  const show = (found) => place.replaceChildren(...(found ? aboutView(found, id, t("about")) : [heading(), facts(`${id}: ${t("notLoaded")}`)]));
  const heading = () => make("h3", { textContent: t("about") });
  const facts = (words) => make("p", { className: "facts", textContent: words });
  place.append(heading(), facts(id));
  about.then(show).catch((error) => place.replaceChildren(heading(), facts(wordsOf(error))));
  return place;
}
