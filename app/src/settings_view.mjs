// The dialog of settings: those of this conversation, and those of all.
import { closedBeside, iconButton, make } from "./dom.mjs";
import { LANGUAGES, number, t } from "./words.mjs";

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

/** on: {change(): the talk or the model has changed; language(name)} */
export function openSettings({ talk, model, language }, on) {
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
  const title = make("h2", { id: "settings-title", textContent: t("settings") });
  const close = iconButton("close", t("close"), () => dialog.close());
  dialog.append(
    make("div", { className: "head" }, title, close),
    make("h3", { textContent: t("forThisTalk") }),
    field("system", system, "systemHint"),
    make("div", { className: "two" }, ...numbers),
    ...aboutModel(model),
    make("h3", { textContent: t("forAll") }),
    field("language", tongue),
  );
  closedBeside(dialog);
  dialog.onclose = () => dialog.remove();
  document.body.append(dialog);
  dialog.showModal();
}

function aboutModel(model) {
  if (!model) return [];
  const sentences = model.capabilities === null ? [t("notLoaded")] : [t("canDo", { what: model.capabilities.map((name) => t(`flag_${name}`) ?? name).join(", ") })];
  if (model.context) sentences.push(t("context", { n: number(model.context) }));
  return [make("h3", { textContent: t("about") }), make("p", { className: "facts" }, make("b", { textContent: model.id }), ` ${sentences.join(" ")}`)];
}
