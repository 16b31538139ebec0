// A second visit works without the network: the page's files come from its server, or from this cache, where all are of one version.
const NAME = "llama-bridge";
const DIGEST = /-[0-9a-f]{16}\.bin$/; // what has such a name never changes
const OF_APP = /\/app\/[^/]+$/; // what a tab keeps for itself when it is loaded again
const LIST = "wheels.json";
const PAGE = ["./", "worker.mjs", "chat.py"];
const APP = ["page.js", "app.css", "icon.svg"];
const PYODIDE = ["pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "pyodide-lock.json", "python_stdlib.zip"];
let renewing = null;

/** Fetch all files, and only then put them into the cache; the list, which names others, comes last. */
async function keepAll() {
  const list = await whole(LIST);
  const { started, llama_bridge } = await list.clone().json();
  const ours = started ?? llama_bridge;
  const there = (folder, names) => names.map((name) => `${folder}/${name}`);
  const paths = [...ours, ...there("pyodide", PYODIDE), ...there("app", APP), ...PAGE];
  const found = await Promise.all(paths.map(async (path) => [path, (DIGEST.test(path) && (await kept(path))) || (await whole(path))]));
  const cache = await caches.open(NAME);
  for (const [path, answer] of [...found, [LIST, list]]) await cache.put(path, answer);
  for (const path of ours) await forgetOlder(cache, new URL(path, location).href);
}

/** A file as its server has it now, read to its end: no connection is held by one that nobody reads. */
async function whole(path) {
  const answer = await fetch(path, { cache: "no-cache" });
  const isPage = answer.headers.get("Content-Type")?.startsWith("text/html"); // some servers send one instead of status 404
  if (!answer.ok || (isPage && path !== "./")) throw new Error(`${path}: the server does not have it`);
  return new Response(await answer.blob(), { headers: answer.headers });
}

async function forgetOlder(cache, url) {
  const isOlder = (old) => old !== url && DIGEST.test(old) && old.replace(DIGEST, "") === url.replace(DIGEST, "");
  for (const { url: old } of await cache.keys()) if (isOlder(old)) await cache.delete(old);
}

/** What the cache has. A browser that cannot read it is one that has nothing. */
async function kept(request) {
  try {
    return await (await caches.open(NAME)).match(request);
  } catch {
    return undefined;
  }
}

async function answer(event) {
  const { request } = event;
  const before = DIGEST.test(request.url) && (await kept(request));
  if (before) return before;
  try {
    const found = await fetch(request, { cache: "no-cache" }); // or some of a visit's files would be of before a deploy
    if (found.status >= 500) return (await kept(request)) ?? found;
    if (found.ok) event.waitUntil(renewIfOther(request.url, found.headers));
    return OF_APP.test(request.url) && found.ok ? unkept(found) : found;
  } catch (error) {
    const old = await kept(request);
    if (old) return old;
    throw error;
  }
}

/** Where a server lets browsers keep a file for a while, too, a tab asks for it each time. */
function unkept({ body, headers: all }) {
  const headers = new Headers(all);
  headers.set("Cache-Control", "no-cache");
  return new Response(body, { headers });
}

/** The page comes from its server, and the cache has another version of it: get all of this one. The page does not wait for that. */
async function renewIfOther(url, now) {
  const before = await kept(url);
  const told = ["ETag", "Last-Modified"].find((name) => now.has(name));
  const isOther = before ? told && before.headers.get(told) !== now.get(told) : DIGEST.test(url);
  if (!isOther) return;
  renewing ??= keepAll().finally(() => (renewing = null));
  await renewing.catch(() => {}); // no network any more, or no space: the older version stays
}

self.oninstall = (event) => event.waitUntil(keepAll());
self.onfetch = (event) => {
  const { method, url, cache } = event.request;
  const isModel = cache === "no-store" || new URL(url).pathname.endsWith(".gguf");
  if (method === "GET" && !isModel) event.respondWith(answer(event));
};
