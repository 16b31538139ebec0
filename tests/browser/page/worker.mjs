import { loadPyodide } from "./pyodide/pyodide.mjs";

const url = (path) => new URL(path, import.meta.url).href;
const printed = [];
const started = performance.now();
try {
  const wheels = await (await fetch(url("wheels.json"))).json();
  const python = await loadPyodide({ packages: wheels.micropip.map(url), stdout: (line) => printed.push(line) });
  const micropip = python.pyimport("micropip");
  await micropip.install.callKwargs([...wheels.llama_bridge, ...wheels.tests].map(url), { deps: false });
  const archive = await (await fetch(url("suite.zip"))).arrayBuffer();
  python.unpackArchive(archive, "zip", { extractDir: "/suite" });
  python.runPython("import sys; sys.path.insert(0, '/suite')");
  await python.runPythonAsync("from llama_bridge_wasm.hosts.browser import threads; await threads.prepare(3)");
  postMessage(["ready", (performance.now() - started) / 1000]);
  const inside = python.pyimport("tests.browser.inside");
  const options = await (await fetch(url("options.json"))).json();
  const status = inside.run("/suite", (line) => postMessage(["test", JSON.parse(line)]), ...options);
  postMessage(["done", { status, printed }]);
} catch (error) {
  postMessage(["error", String(error)]);
}
