import { loadPyodide } from "./pyodide/pyodide.mjs";

self.onmessage = async ({ data: code }) => {
  const wheels = await (await fetch("wheels.json")).json();
  const packages = wheels.llama_bridge.map((path) => new URL(path, location).href);
  const python = await loadPyodide({ packages });
  try {
    postMessage(String(await python.runPythonAsync(code)));
  } catch (error) {
    postMessage(error.message);
  }
};
