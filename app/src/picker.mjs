// Which model answers: those that are loaded, and those that would be.
import { make } from "./dom.mjs";
import { shortName } from "./models_view.mjs";
import { t } from "./words.mjs";

export class Picker {
  /** choose(id) is called with the model that somebody has chosen. */
  constructor(choose) {
    this.place = make("select", { id: "model", ariaLabel: t("model"), onchange: () => choose(this.place.value) });
  }

  /** No model is known yet. */
  wait(words) {
    this.place.replaceChildren(make("option", { value: "", textContent: words }));
  }

  /** models: of the host; others: of its library, which are not loaded; chosen: the id of one. */
  show(models, others, chosen) {
    const option = ({ id, name }) => make("option", { value: id, textContent: name ?? shortName(id), title: id });
    const here = others.filter(({ id }) => !models.some((one) => one.id === id));
    this.place.replaceChildren(...models.map(option));
    if (here.length) this.place.append(make("optgroup", { label: t("otherModels") }, ...here.map(option)));
    this.place.value = chosen;
  }
}
