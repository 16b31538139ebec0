// Keeps conversations and preferences on the server of a window of its own: that server has another port each time, and for
// a browser another port is another place.
import { merge } from "./talk.mjs";

const PLACE = "app/conversations";
const PREFERENCES = "app/preferences";

export class HttpShelf {
  lasting = true;

  constructor(client) {
    this.client = client;
  }

  async heads() {
    return (await (await this.client.fetch(PLACE)).json()).heads;
  }

  async get(id) {
    return (await (await this.client.fetch(`${PLACE}/${id}`)).json()) ?? undefined;
  }

  async put(talk) {
    const conversation = merge(talk, await this.get(talk.id));
    await this.client.fetch(`${PLACE}/${talk.id}`, { conversation }, undefined, "PUT");
  }

  async remove(id) {
    await this.client.fetch(`${PLACE}/${id}`, undefined, undefined, "DELETE");
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
