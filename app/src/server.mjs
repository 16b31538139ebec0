// The page of a server, and the window of `llama-bridge app`.
import { App } from "./app.mjs";
import { HttpClient } from "./http_client.mjs";
import { HttpLibrary } from "./http_library.mjs";
import { HttpSessions } from "./http_sessions.mjs";
import { HttpShelf } from "./http_shelf.mjs";
import { openShelf } from "./shelf.mjs";

const client = new HttpClient();
if (client.hasWindow) {
  client.library = new HttpLibrary(client);
  client.sessions = new HttpSessions(client);
}
const open = client.hasWindow ? async () => new HttpShelf(client) : openShelf;
new App(client, open).start();
