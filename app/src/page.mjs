// The page without a server: Python and llama.cpp run in a worker beside it. See examples/browser.
import { App } from "./app.mjs";
import { openShelf } from "./shelf.mjs";
import { WorkerClient } from "./worker_client.mjs";

const client = new WorkerClient(() => new Worker("worker.mjs", { type: "module" }));
const app = new App(client, openShelf);
await app.start();
navigator.serviceWorker?.register("offline.js").catch(() => {}); // if it fails, the page needs the network
