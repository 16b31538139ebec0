const text = async (path) => (await fetch(path)).text();

self.onunhandledrejection = ({ reason }) => postMessage({ event: "failed", kind: "Error", words: String(reason) });

self.onmessage = async ({ data: flag }) => {
  self.onmessage = null;
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
    chat.hear({ job: "begin" });
  } catch (error) {
    postMessage({ event: "broken", words: error.message });
  }
};
