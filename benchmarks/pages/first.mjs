// Seconds from Pyodide's own start to the first token of the demo model: wheels, import, load, prefill.
import { loadPyodide } from "./pyodide/pyodide.mjs";

const { llama_bridge: wheels } = await (await fetch("wheels.json")).json();
const python = await loadPyodide();
const clock = performance.now();
await python.loadPackage(wheels.map((path) => new URL(path, location).href), { messageCallback() {} });
await python.runPythonAsync(`
from llama_bridge import LlamaBridge
stream = LlamaBridge("demo").generate_stream("Hello!", temperature=0)
next(stream)
`);
postMessage((performance.now() - clock) / 1000);
