const text = async (path) => (await fetch(path)).text();

self.onunhandledrejection = ({ reason }) => {
  throw reason; // so that the page hears of it
};

self.onmessage = async ({ data: { flag, lock } }) => {
  self.onmessage = null;
  navigator.locks?.request(lock, () => new Promise(() => {})); // held as long as this worker lives
  try {
    if (!self.WebAssembly) throw new Error("this browser has no WebAssembly, or it is switched off");
    const [{ loadPyodide }, wheels, code] = await Promise.all([
      import("./pyodide/pyodide.mjs"),
      text("wheels.json").then(JSON.parse),
      text("chat.py"),
    ]);
    const packages = wheels.llama_bridge.map((path) => new URL(path, location).href);
    const python = await loadPyodide({ packages });
    await python.runPythonAsync(code);
    const chat = python.globals.get("Chat")(flag);
    self.onmessage = ({ data }) => chat.hear(data);
    postMessage({ event: "ready" });
  } catch (error) {
    postMessage({ event: "broken", words: error.message });
  }
};
