// The sessions of a window's server: a conversation with its KV cache, out as a file and in again.
import { upload } from "./upload.mjs";

const PLACE = "app/sessions";

export class HttpSessions {
  constructor(client) {
    this.client = client;
  }

  async facts(ref) {
    return (await this.client.fetch(`${PLACE}/${ref}`)).json();
  }

  async save(ref) {
    return (await this.client.fetch(`${PLACE}/${ref}/file`)).blob();
  }

  check(file, how) {
    return upload(this.client, `${PLACE}/checks/${encodeURIComponent(file.name)}`, file, how);
  }

  async load(file, { again, ...how }) {
    const found = await upload(this.client, `${PLACE}/files/${encodeURIComponent(file.name)}${again ? "?replay=1" : ""}`, file, how);
    const said = found.messages.filter(({ role }) => role === "user" || role === "assistant");
    const messages = said.map(({ role, content, reasoning_content: reasoning = "", tool_calls: calls = [] }) => ({
      role,
      text: content ?? "",
      ...(role === "assistant" && { reasoning, calls: calls.map(({ id, function: one }) => ({ id, name: one.name, arguments: one.arguments })), state: "done" }),
    }));
    const system = found.messages.find(({ role }) => role === "system")?.content ?? "";
    return { ...found, ref: found.id, system, messages };
  }
}
