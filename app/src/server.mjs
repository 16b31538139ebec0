// The page of a server, and the window of `llama-bridge app`.
import { App } from "./app.mjs";
import { HttpClient } from "./http_client.mjs";
import { HttpLibrary } from "./http_library.mjs";
import { HttpSessions } from "./http_sessions.mjs";
import { HttpShelf } from "./http_shelf.mjs";
import { keepPreferencesIn } from "./preferences.mjs";
import { openShelf } from "./shelf.mjs";

const client = new HttpClient();
let open = openShelf;
if (client.hasWindow) {
  client.library = new HttpLibrary(client);
  client.sessions = new HttpSessions(client);
  const shelf = new HttpShelf(client);
  open = async (changed) => shelf.watch(changed);
  await keepPreferencesIn(shelf).catch(() => {}); // the application says what is wrong
}
new App(client, open).start();
