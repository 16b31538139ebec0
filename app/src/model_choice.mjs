// Which model answers: those that the host has, the one that a conversation goes on with, and where another is chosen.
import { isModelFile } from "./model_files.mjs";
import { ModelsView } from "./models_view.mjs";
import { askForKey, tell, wordsOf } from "./notices.mjs";
import { Picker } from "./picker.mjs";
import { preferences, savePreferences } from "./preferences.mjs";
import { t } from "./words.mjs";

export class ModelChoice {
  all = null; // until they are found
  missing = null; // why none can be had, in words
  finding = null; // the first search for them, a promise
  latest = null; // the last one
  searches = 0;

  /** on: {show(): something has changed, chosen(): another one for the open conversation, talk(): that conversation} */
  constructor(client, on) {
    Object.assign(this, { client, on });
    this.picker = new Picker((id) => this.#choose(id));
    this.library = client.library && new ModelsView(client.library, (id) => this.#changed(id));
  }

  /** The model of a conversation; null if it is not here. */
  of(talk) {
    return this.all?.find(({ id }) => id === talk.model) ?? null;
  }

  find() {
    return (this.latest = this.#find((this.searches += 1)));
  }

  /** What a search finds counts if no other was begun meanwhile: it may not have what was added since. */
  async #find(search) {
    try {
      const found = await this.client.models();
      if (search !== this.searches) return this.latest;
      this.all = found;
      this.missing = null;
    } catch (error) {
      if (search !== this.searches) return this.latest;
      this.all ??= [];
      this.missing = wordsOf(error);
      if (error.kind === "key") this.askForKey();
      return this.on.show();
    }
    this.useFor(this.on.talk());
    this.on.show();
    const others = this.library?.refresh(); // nobody has to wait for what is not loaded
    others?.then(() => this.useFor(this.on.talk())).catch(() => {}); // its own view tells what is wrong
  }

  /** A conversation whose model is not here goes on with one that is. */
  useFor(talk) {
    if (!this.all?.length) return;
    const known = (name) => this.all.some(({ id }) => id === name);
    if (!known(talk.model)) {
      const was = talk.model;
      talk.model = known(preferences.model) ? preferences.model : this.all[0].id;
      if (was && talk.leaf !== null) tell(t("otherModel", { was, model: talk.model }));
    }
    this.picker.show(this.all, this.library?.ready ?? [], this.on.talk().model);
  }

  /** After an answer, it is loaded, and what it can do is known. */
  async learn() {
    if (this.of(this.on.talk())?.capabilities === null) await this.find();
  }

  /** Files that are models are taken into the library; returns the others. */
  take(files) {
    if (!this.library?.library.takes.files) return files;
    const models = files.filter(isModelFile);
    if (models.length) this.library.addFiles(models);
    return files.filter((file) => !models.includes(file));
  }

  askForKey() {
    askForKey((key) => {
      this.client.useKey(key);
      this.find();
    });
  }

  async #choose(model) {
    if (this.all.some(({ id }) => id === model)) await this.#changed(model);
    else if (!(await this.library.use(model))) this.useFor(this.on.talk()); // that is told
  }

  /** Others are here, or another one answers. */
  async #changed(model) {
    if (model) {
      this.on.talk().model = preferences.model = model;
      savePreferences();
      this.on.chosen();
    }
    await this.find();
  }
}
