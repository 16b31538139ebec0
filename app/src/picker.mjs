// Which model answers: those that are loaded, and those that would be.
import { make } from "./dom.mjs";
import { shortName } from "./models_view.mjs";
import { t } from "./words.mjs";

export class Picker {
  #shown = null; // what the options say: they are replaced only for others, as somebody may have them open

  /** choose(id) is called with the model that somebody has chosen. */
  constructor(choose) {
    this.place = make("select", { id: "model", ariaLabel: t("model"), onchange: () => choose(this.place.value) });
  }

  /** No model is known yet. */
  wait(words) {
    this.#shown = null;
    this.place.replaceChildren(make("option", { value: "", textContent: words }));
  }

  /** models: of the host; others: of its library, which are not loaded; chosen: the id of one. */
  show(models, others, chosen) {
    const here = others.filter(({ id }) => !models.some((one) => one.id === id));
    const shown = JSON.stringify([models.map(named), here.map(named)]);
    if (shown !== this.#shown) this.#fill(models, here);
    this.#shown = shown;
    this.place.value = chosen;
  }

  #fill(models, here) {
    const option = (model) => make("option", { value: model.id, textContent: said(model), title: model.id });
    this.place.replaceChildren(...models.map(option));
    if (here.length) this.place.append(make("optgroup", { label: t("otherModels") }, ...here.map(option)));
  }
}

const named = (model) => [model.id, said(model)];
const said = ({ id, name }) => name ?? shortName(id);
