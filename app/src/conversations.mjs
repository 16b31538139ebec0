// The conversations: the one that is open, and those in the list. A shelf keeps them; another window may change them there.
import { tell, wordsOf } from "./notices.mjs";
import { preferences, savePreferences } from "./preferences.mjs";
import { headOf } from "./shelf.mjs";
import { keptTalk, merge, newTalk } from "./talk.mjs";
import { t } from "./words.mjs";

const DRAFT_AFTER = 500; // milliseconds without a key

export class Conversations {
  heads = new Map();
  current = null; // the conversation on the screen
  shelf = null; // until it is open

  /** running: of an Answering. on: {opened(talk): another one is open now; show(): something has changed} */
  constructor(running, on) {
    Object.assign(this, { running, on });
  }

  /** Until the shelf is open there is a new conversation. last: the id of the one to open then, unless somebody has begun. */
  start(openShelf, last) {
    this.current = newTalk({ model: preferences.model });
    this.opening = openShelf((id) => this.#changedElsewhere(id));
    this.ready = this.#start(last);
    return this.ready;
  }

  async #start(last) {
    this.shelf = await this.opening;
    try {
      for (const head of await this.shelf.heads()) this.heads.set(head.id, head);
    } catch (error) {
      tell(wordsOf(error));
    }
    if (this.current.leaf !== null || this.current.draft) return this.on.show();
    await this.open(this.heads.has(last) ? last : null);
  }

  /** Open one; null begins a new one. */
  async open(id) {
    if (this.current && this.current.leaf !== null) this.save(this.current);
    const found = id === null ? null : await this.#get(id);
    if (this.current?.leaf === null) this.unsent = this.current;
    this.current = found ?? this.#begin();
    for (const message of Object.values(this.current.messages)) {
      if (message.state === "writing" && !this.running.has(this.current.id)) message.state = "interrupted";
    }
    preferences.last = this.current.leaf === null ? null : this.current.id;
    savePreferences();
    this.on.opened(this.current);
  }

  /** A new one; or the one that was begun, and left before anything was sent. */
  #begin() {
    const { unsent } = this;
    const hasDraft = unsent?.leaf === null && (unsent.draft || unsent.draftFiles.length);
    return hasDraft ? Object.assign(unsent, { model: preferences.model }) : newTalk({ model: preferences.model });
  }

  async save(talk) {
    if (!talk || talk.leaf === null || talk.removed) return;
    this.heads.set(talk.id, headOf(talk));
    const shelf = await this.opening;
    await shelf.put(talk).catch((error) => tell(wordsOf(error)));
  }

  /** Ids of those in which these words were said. */
  async find(words) {
    return (await this.opening).find(words);
  }

  /** What is written and attached, and not sent yet. */
  draft(text, files) {
    const { current } = this;
    Object.assign(current, { draft: text, draftFiles: files });
    clearTimeout(this.saving);
    this.saving = setTimeout(() => this.save(current), DRAFT_AFTER);
  }

  async with(id, work) {
    const talk = await this.#get(id);
    if (talk) await work(talk);
    this.on.show();
  }

  change(id, change) {
    return this.with(id, (talk) => {
      change(talk);
      return this.save(talk);
    });
  }

  remove(id) {
    return this.with(id, async (talk) => {
      talk.removed = true;
      this.running.get(id)?.abort.abort();
      try {
        await this.shelf.remove(id);
      } catch (error) {
        delete talk.removed;
        return tell(wordsOf(error));
      }
      this.heads.delete(id);
      if (this.current.id === id) await this.open(null);
      tell(t("removed"), () => this.#bringBack(talk));
    });
  }

  async #bringBack(talk) {
    delete talk.removed;
    await this.save(talk);
    await this.open(talk.id);
  }

  /** A conversation; null if it was deleted elsewhere, or cannot be had now. */
  async #get(id) {
    const mine = this.#mine(id);
    if (mine) return mine;
    try {
      const kept = await this.shelf.get(id);
      if (kept) return keptTalk(kept);
      this.heads.delete(id);
    } catch (error) {
      tell(wordsOf(error));
    }
    return null;
  }

  #mine(id) {
    return this.running.get(id)?.talk ?? (this.current?.id === id ? this.current : null);
  }

  async #changedElsewhere(id) {
    await this.ready; // another window may change one while this one opens
    const kept = await this.shelf.get(id);
    const mine = this.#mine(id);
    if (kept) {
      this.heads.set(id, headOf(kept));
      if (mine) Object.assign(mine, merge(mine, kept), { title: kept.title });
    } else {
      this.heads.delete(id);
      if (mine) {
        mine.removed = true;
        this.running.get(id)?.abort.abort();
        tell(t("removedElsewhere", { title: mine.title }), () => this.#bringBack(mine));
        if (this.current === mine) return this.open(null);
      }
    }
    this.on.show();
  }
}
