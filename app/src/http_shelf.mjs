// Keeps conversations and preferences on the server of a window of its own: that server has another port each time, and for
// a browser another port is another place. Several windows may have the same folder: each looks for what others have changed.
import { merge } from "./talk.mjs";

const PLACE = "app/conversations";
const PREFERENCES = "app/preferences";
const EVERY = 2000; // milliseconds
const TRIES = 20;

export class HttpShelf {
  lasting = true;
  last = Promise.resolve();
  waiting = new Map();
  stamps = new Map(); // by the id: which state of a conversation this window knows of

  constructor(client) {
    this.client = client;
  }

  /** changed(id) is called when another window changed or deleted one. */
  watch(changed) {
    this.changed = changed;
    const look = () => document.hidden || this.#next(() => this.#look()).catch(() => {}); // whoever writes is told
    setInterval(look, EVERY);
    document.addEventListener("visibilitychange", look);
    return this;
  }

  async #look() {
    const before = this.stamps;
    await this.heads();
    for (const id of new Set([...before.keys(), ...this.stamps.keys()])) if (before.get(id) !== this.stamps.get(id)) this.changed(id);
  }

  /** Changes are made one after the other: the one that was told first may not arrive last. */
  #next(change) {
    const made = this.last.then(change);
    this.last = made.catch(() => {});
    return made;
  }

  async heads() {
    const { heads } = await (await this.client.fetch(PLACE)).json();
    this.stamps = new Map(heads.map(({ id, stamp }) => [id, stamp]));
    return heads;
  }

  async get(id) {
    return (await this.#read(id)).kept;
  }

  async #read(id) {
    const answer = await this.client.fetch(`${PLACE}/${id}`);
    return { kept: (await answer.json()) ?? undefined, stamp: answer.headers.get("ETag") ?? undefined };
  }

  put(talk) {
    const { id } = talk;
    const waits = this.waiting.has(id);
    this.waiting.set(id, talk);
    return waits ? this.last : this.#next(() => this.#put(id));
  }

  /** Written only over what was merged with it; otherwise it is read again. */
  async #put(id) {
    const talk = this.waiting.get(id);
    this.waiting.delete(id); // at once: if this fails, the next is written
    for (let tries = 1; ; tries++) {
      const { kept, stamp } = await this.#read(id);
      const isElsewhere = stamp !== this.stamps.get(id);
      if (!stamp && isElsewhere) { // deleted there
        this.stamps.delete(id);
        return this.changed(id);
      }
      try {
        const answer = await this.client.fetch(`${PLACE}/${id}?was=${encodeURIComponent(stamp ?? "")}`, { conversation: merge(talk, kept) }, undefined, "PUT");
        this.stamps.set(id, answer.headers.get("ETag"));
        if (isElsewhere) this.changed(id); // what was merged is shown here, too
        return;
      } catch (error) {
        if (error.kind !== "changed" || tries === TRIES) throw error;
      }
    }
  }

  remove(id) {
    return this.#next(async () => {
      await this.client.fetch(`${PLACE}/${id}`, undefined, undefined, "DELETE");
      this.stamps.delete(id);
    });
  }

  async find(words) {
    const found = await this.client.fetch(`${PLACE}?find=${encodeURIComponent(words)}`);
    return new Set((await found.json()).heads.map(({ id }) => id));
  }

  async preferences() {
    return await (await this.client.fetch(PREFERENCES)).json();
  }

  /** Nobody waits for it, and it arrives even if the page is left at once. */
  keepPreferences(preferences) {
    const headers = { "Content-Type": "application/json", Authorization: `Bearer ${this.client.key}` };
    fetch(PREFERENCES, { method: "PUT", headers, body: JSON.stringify({ preferences }), keepalive: true }).catch(() => {});
  }
}
