// Keeps conversations and preferences on the server of a window of its own: that server has another port each time, and for
// a browser another port is another place.
import { merge } from "./talk.mjs";

const PLACE = "app/conversations";
const PREFERENCES = "app/preferences";

export class HttpShelf {
  lasting = true;
  last = Promise.resolve();
  waiting = new Map();

  constructor(client) {
    this.client = client;
  }

  /** Changes are made one after the other: the one that was told first may not arrive last. */
  #next(change) {
    const made = this.last.then(change);
    this.last = made.catch(() => {});
    return made;
  }

  async heads() {
    return (await (await this.client.fetch(PLACE)).json()).heads;
  }

  async get(id) {
    return (await (await this.client.fetch(`${PLACE}/${id}`)).json()) ?? undefined;
  }

  put(talk) {
    const { id } = talk;
    const waits = this.waiting.has(id);
    this.waiting.set(id, talk);
    return waits ? this.last : this.#next(() => this.#put(id));
  }

  async #put(id) {
    const kept = await this.get(id);
    const conversation = merge(this.waiting.get(id), kept);
    this.waiting.delete(id);
    await this.client.fetch(`${PLACE}/${id}`, { conversation }, undefined, "PUT");
  }

  remove(id) {
    return this.#next(() => this.client.fetch(`${PLACE}/${id}`, undefined, undefined, "DELETE"));
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
