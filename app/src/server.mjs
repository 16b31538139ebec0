// The page of a server.
import { App } from "./app.mjs";
import { HttpClient } from "./http_client.mjs";

new App(new HttpClient()).start();
