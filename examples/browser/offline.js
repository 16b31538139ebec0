// A second visit works without the network: the page's files come from its server, or from this cache.
const NAME = "llama-bridge";
const DIGEST = /-[0-9a-f]{16}\.bin$/;
const PAGE = ["./", "worker.mjs", "chat.py", "wheels.json"];
const APP = ["page.js", "app.css", "icon.svg"];
const PYODIDE = ["pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "pyodide-lock.json", "python_stdlib.zip"];

async function keepAll() {
  const wheels = await (await fetch("wheels.json")).json();
  const cache = await caches.open(NAME);
  const there = (folder, names) => names.map((name) => `${folder}/${name}`);
  const ours = wheels.started ?? wheels.llama_bridge;
  await cache.addAll([...PAGE, ...there("app", APP), ...there("pyodide", PYODIDE), ...ours]);
  for (const path of ours) await forgetOlder(cache, new URL(path, location).href);
}

async function answer(request) {
  const cache = await caches.open(NAME);
  if (DIGEST.test(request.url)) return (await cache.match(request)) ?? (await fetched(request, cache));
  try {
    const found = await fetch(request);
    const kept = await cache.match(request);
    if (found.ok && kept?.headers.get("ETag") !== found.headers.get("ETag"))
      await cache.put(request, found.clone()).catch(() => {}); // no space: then the page needs the network
    return found;
  } catch (error) {
    const kept = await cache.match(request);
    if (kept) return kept;
    throw error;
  }
}

/** A file whose name changes with its content is asked for once. */
async function fetched(request, cache) {
  const found = await fetch(request);
  if (!found.ok) return found;
  const kept = cache.put(request, found.clone()).then(() => forgetOlder(cache, request.url));
  await kept.catch(() => {}); // no space: then the page needs the network
  return found;
}

async function forgetOlder(cache, url) {
  const isOlder = (old) => old !== url && DIGEST.test(old) && old.replace(DIGEST, "") === url.replace(DIGEST, "");
  for (const { url: old } of await cache.keys()) if (isOlder(old)) await cache.delete(old);
}

self.oninstall = (event) => event.waitUntil(keepAll());
self.onfetch = (event) => {
  const { method, url, cache } = event.request;
  const isModel = cache === "no-store" || new URL(url).pathname.endsWith(".gguf");
  if (method === "GET" && !isModel) event.respondWith(answer(event.request));
};
