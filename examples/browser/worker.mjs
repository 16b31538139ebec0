/** A file of the page, read as somebody wants it. */
const get = (path, read) =>
  named(path, async () => {
    const answer = await fetch(path);
    if (!answer.ok) throw new Error(`the server answers with status ${answer.status}`);
    if (answer.headers.get("Content-Type")?.startsWith("text/html")) throw new Error("the server sends a web page instead");
    return read(answer);
  });

/** An error tells which file it is about. */
async function named(path, make) {
  try {
    return await make();
  } catch (error) {
    throw new Error(`${path}: ${error.message}`, { cause: error });
  }
}

/** A promise that is awaited only later; until then nobody need hear that it failed. */
const later = (promise) => {
  promise.catch(() => {});
  return promise;
};

const started = later(start()); // while the page's first message is on its way

self.onunhandledrejection = ({ reason }) => {
  throw reason; // so that the page hears of it
};

self.onmessage = async ({ data: { flag, lock } }) => {
  self.onmessage = null;
  navigator.locks?.request(lock, () => new Promise(() => {})).catch(() => {}); // held as long as this worker lives; refused where a browser keeps nothing
  try {
    const chat = (await started).Chat(flag);
    self.onmessage = ({ data }) => chat.hear(data);
    postMessage({ event: "ready" });
  } catch (error) {
    console.warn(error);
    postMessage({ event: "broken", words: error.message.trim().split("\n").at(-1) }); // the last line of a traceback
  }
};

/** chat.py, in a Python that has llama-bridge. */
async function start() {
  if (!self.WebAssembly) throw new Error("this browser has no WebAssembly, or it is switched off");
  later(import("./pyodide/pyodide.asm.mjs")); // pyodide.mjs does so, too, but after the memory is there
  const runtime = later(import("./pyodide/pyodide.mjs"));
  const code = later(get("chat.py", (answer) => answer.text()));
  const { llama_bridge: wheels, started } = await get("wheels.json", (answer) => answer.json());
  const [python, folder] = await (started ? readPython(runtime, ...started) : startPython(runtime, wheels));
  python.FS.writeFile(`${folder}/chat.py`, await code);
  return python.pyimport("chat");
}

/** Python, and the folder that it imports from. */
async function startPython(runtime, paths) {
  const wheels = later(Promise.all(paths.map((path) => get(path, bytesOf))));
  const [python, archives] = await Promise.all([load(await runtime), wheels]);
  const folder = folderOf(python);
  for (const wheel of archives) python.unpackArchive(wheel, "wheel", { extractDir: folder }); // in half the time of loadPackage()
  return [python, folder];
}

/** The same in a quarter of the time: what Python's memory is once it has started and imported llama-bridge is a file. */
async function readPython(runtime, memoryPath, filesPath) {
  const memory = later(getUnpacked(memoryPath));
  const files = later(getUnpacked(filesPath, memory));
  const python = await load(await runtime, { _loadSnapshot: memory }).catch(async (error) => {
    console.warn(`Python starts in full: ${error.message}`); // its memory is missing, damaged, or of another version
    return load(await runtime);
  });
  const folder = folderOf(python);
  unpack(python.FS, folder, new Uint8Array(await files));
  // The same in every page, and looked at before those files were there.
  python.runPython("import importlib, random, tempfile; importlib.invalidate_caches(); random.seed(); tempfile._name_sequence = None");
  return [python, folder];
}

/** Pyodide only logs that its module cannot be had, and waits for ever; servers often send that as something else. */
async function load({ loadPyodide }, options) {
  const { instantiateStreaming } = WebAssembly;
  const failed = new Promise((_, reject) => {
    WebAssembly.instantiateStreaming = (answer, imports) => {
      const made = named("pyodide/pyodide.asm.wasm", async () => instantiateStreaming(asWasm(await answer), imports));
      made.catch(reject);
      return made;
    };
  });
  try {
    return await Promise.race([loadPyodide(options), failed]);
  } finally {
    WebAssembly.instantiateStreaming = instantiateStreaming;
  }
}

function asWasm(answer) {
  const kind = answer.headers.get("Content-Type") ?? "";
  if (!answer.ok || /^(text\/html|application\/wasm)/.test(kind)) return answer;
  return new Response(answer.body, { headers: { "Content-Type": "application/wasm" } });
}

const bytesOf = (answer) => answer.arrayBuffer();
const folderOf = (python) => python.runPython("import site; site.getsitepackages()[0]");

/** A line of JSON has names and sizes of the files that follow: see tools/browser/site.py. */
function unpack(FS, folder, files) {
  let at = files.indexOf(10) + 1;
  for (const [name, size] of JSON.parse(new TextDecoder().decode(files.subarray(0, at)))) {
    const path = `${folder}/${name}`;
    FS.mkdirTree(path.slice(0, path.lastIndexOf("/")));
    FS.writeFile(path, files.subarray(at, (at += size)), { canOwn: true }); // not copied
  }
}

/** Decompressed once the other is there: what is needed first gets the processor. Fetched whole, which is faster than in pieces. */
async function getUnpacked(path, other) {
  const packed = await get(path, bytesOf);
  await other?.catch(() => {});
  return named(path, () => bytesOf(new Response(new Response(packed).body.pipeThrough(new DecompressionStream("gzip")))));
}
