const get = async (path) => {
  const answer = await fetch(path);
  if (answer.ok) return answer;
  throw new Error(`${path}: ${answer.status}`);
};

self.onunhandledrejection = ({ reason }) => {
  throw reason; // so that the page hears of it
};

self.onmessage = async ({ data: { flag, lock } }) => {
  self.onmessage = null;
  navigator.locks?.request(lock, () => new Promise(() => {})); // held as long as this worker lives
  try {
    if (!self.WebAssembly) throw new Error("this browser has no WebAssembly, or it is switched off");
    const code = get("chat.py").then((answer) => answer.text());
    const { llama_bridge: paths, started } = await (await get("wheels.json")).json();
    const [memory, ...unpacked] = started ?? [];
    const wheels = started ? unpacked.map(getUnpacked) : paths.map(async (path) => (await get(path)).arrayBuffer());
    const [python] = await Promise.all([startPython(memory), ...wheels, code]);
    for (const wheel of wheels) python.unpackArchive(await wheel, "wheel"); // in half the time of loadPackage()
    await python.runPythonAsync(await code);
    const chat = python.globals.get("Chat")(flag);
    self.onmessage = ({ data }) => chat.hear(data);
    postMessage({ event: "ready" });
  } catch (error) {
    postMessage({ event: "broken", words: error.message });
  }
};

/** Its memory once it has started and imported llama-bridge is a file, and is read ten times sooner. */
async function startPython(path) {
  const memory = path ? getUnpacked(path) : Promise.reject();
  memory.catch(() => {}); // that is seen below
  const { loadPyodide } = await import("./pyodide/pyodide.mjs");
  try {
    const python = await loadPyodide({ _loadSnapshot: memory });
    python.runPython("import random, tempfile; random.seed(); tempfile._name_sequence = None"); // the same in every page
    return python;
  } catch {
    return loadPyodide(); // it is not there, damaged, or of another version
  }
}

async function getUnpacked(path) {
  const { body } = await get(path);
  return new Response(body.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}
