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
    const wheels = getWheels();
    const code = get("chat.py").then((answer) => answer.text());
    const [python] = await Promise.all([startPython(), wheels, code]);
    for (const wheel of await wheels) python.unpackArchive(wheel, "wheel"); // in half the time of loadPackage()
    await python.runPythonAsync(await code);
    const chat = python.globals.get("Chat")(flag);
    self.onmessage = ({ data }) => chat.hear(data);
    postMessage({ event: "ready" });
  } catch (error) {
    postMessage({ event: "broken", words: error.message });
  }
};

async function getWheels() {
  const { llama_bridge: paths } = await (await get("wheels.json")).json();
  return Promise.all(paths.map(async (path) => (await get(path)).arrayBuffer()));
}

/** Its memory when it has started is a file beside it, and is read ten times sooner than Python starts. */
async function startPython() {
  const memory = getMemory();
  memory.catch(() => {}); // that is told below
  const { loadPyodide } = await import("./pyodide/pyodide.mjs");
  try {
    const python = await loadPyodide({ _loadSnapshot: memory });
    python.runPython("import random; random.seed()"); // it would be the same in every page
    return python;
  } catch {
    return loadPyodide(); // it is not there, damaged, or of another version
  }
}

async function getMemory() {
  const { body } = await get("pyodide/started.bin");
  return new Response(body.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}
