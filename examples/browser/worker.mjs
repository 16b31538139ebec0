import { loadPyodide } from "./pyodide/pyodide.mjs";

const text = async (path) => (await fetch(path)).text();

self.onmessage = async ({ data: flag }) => {
  const waiting = [];
  self.onmessage = ({ data }) => waiting.push(data);
  try {
    if (!("WebAssembly" in self)) throw new Error("this browser has no WebAssembly, or it is switched off");
    const [wheels, code] = await Promise.all([text("wheels.json").then(JSON.parse), text("chat.py")]);
    const packages = wheels.llama_bridge.map((path) => new URL(path, location).href);
    const python = await loadPyodide({ packages });
    await python.runPythonAsync(code);
    const chat = python.globals.get("Chat")(flag);
    self.onmessage = ({ data }) => chat.hear(data);
    chat.hear({ job: "begin" });
    waiting.forEach((data) => chat.hear(data));
  } catch (error) {
    postMessage({ event: "broken", words: error.message });
  }
};
