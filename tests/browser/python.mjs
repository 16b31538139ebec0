import { loadPyodide } from "./pyodide/pyodide.mjs";

const begin = async () => {
  const wheels = await (await fetch("wheels.json")).json();
  const packages = wheels.llama_bridge.map((path) => new URL(path, location).href);
  return loadPyodide({ packages });
};
const python = begin();

self.onmessage = async ({ data: code }) => {
  try {
    postMessage(String(await (await python).runPythonAsync(code)));
  } catch (error) {
    postMessage(error.message);
  }
};
