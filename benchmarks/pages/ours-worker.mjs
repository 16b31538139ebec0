import { loadPyodide } from "./pyodide/pyodide.mjs";

const start = (async () => {
  const { llama_bridge: wheels } = await (await fetch("wheels.json")).json();
  const python = await loadPyodide({ packages: wheels.map((path) => new URL(path, location).href) });
  await python.runPythonAsync(await (await fetch("ours.py")).text());
  return python;
})();

self.onmessage = async ({ data: [name, ...args] }) => {
  try {
    const python = await start;
    postMessage(JSON.parse(await python.globals.get(name)(...args)));
  } catch (error) {
    postMessage({ error: error.message });
  }
};
