// Which model answers: those that the host has, the one that a conversation goes on with, and where another is chosen.
import { orAborted } from "./client.mjs";
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
  #choices = 0; // so far: each has its number
  #newest = 0; // of those that are in force in any conversation
  #inForce = new Map(); // by the id of a conversation: the number of its choice
  #coming = new Set(); // choices whose model is not loaded yet: {number, name, talks: ids of conversations, over: a promise}

  /** on: {show(): something has changed, chosen(id, model): another one for this conversation, talk(): the open one} */
  constructor(client, on) {
    Object.assign(this, { client, on });
    this.picker = new Picker((id) => this.#choose(id));
    this.library = client.library && new ModelsView(client.library, { changed: () => this.find(), coming: (name, model) => this.#await(name, model) });
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
    others?.then(() => search === this.searches && this.useFor(this.on.talk())).catch(() => {}); // its own view tells what is wrong
  }

  /** A conversation whose model is not here goes on with one that is. A new one takes the choice that is on its way. */
  useFor(talk) {
    if (talk.leaf === null) for (const { number, talks } of this.#coming) if (number > this.#newest) talks.add(talk.id);
    if (!this.all?.length) return;
    const known = (name) => this.all.some(({ id }) => id === name);
    if (!known(talk.model)) {
      const was = talk.model;
      talk.model = known(preferences.model) ? preferences.model : this.all[0].id;
      if (was && talk.leaf !== null) tell(t("otherModel", { was, model: talk.model }));
    }
    this.picker.show(this.all, this.library?.ready ?? [], this.on.talk().model);
  }

  /** Wait until what was chosen for a conversation is loaded, or cannot be. tell(name) is told for what one waits. */
  async settled(talk, signal, tell) {
    const isLast = ({ number, talks }) => talks.has(talk.id) && number > (this.#inForce.get(talk.id) ?? 0);
    for (let last; (last = [...this.#coming].findLast(isLast)); ) {
      tell(last.name);
      await orAborted(last.over, signal);
    }
    await orAborted(this.latest, signal);
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
    if (this.all.some(({ id }) => id === model)) await this.#take(model, { number: (this.#choices += 1), talks: new Set([this.on.talk().id]) });
    else if (!(await this.library.use(model))) this.useFor(this.on.talk()); // that is told
  }

  /** A choice that comes into force once its model is loaded; whether it was. model: a promise of its id, or of null. */
  async #await(name, model) {
    const choice = { number: (this.#choices += 1), name, talks: new Set([this.on.talk().id]) };
    const taken = model.then((id) => id !== null && this.#take(id, choice));
    choice.over = taken.catch(() => {}).finally(() => this.#coming.delete(choice));
    this.#coming.add(choice);
    return taken;
  }

  /** What was chosen answers in those conversations for which nothing was chosen later. */
  async #take(model, { number, talks }) {
    if (number > this.#newest) {
      this.#newest = number;
      preferences.model = model;
      savePreferences();
    }
    const open = this.on.talk();
    for (const id of talks) {
      if (number < this.#inForce.get(id)) continue;
      this.#inForce.set(id, number);
      if (id === open.id) open.model = model;
      this.on.chosen(id, model);
    }
    await this.find();
    return true;
  }
}
