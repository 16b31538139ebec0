// node compile.mjs PYODIDE COMPILE.PY WHEEL...: compiles wheels in place, with Pyodide's Python.
import { readFile, writeFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";

const [runtime, code, ...wheels] = process.argv.slice(2);
const { loadPyodide } = await import(pathToFileURL(`${runtime}/pyodide.mjs`));
const python = await loadPyodide({ indexURL: runtime });
await python.runPythonAsync(await readFile(code, "utf8"));
const compiled = python.globals.get("compiled");
for (const wheel of wheels) {
  const made = compiled(new Uint8Array(await readFile(wheel)));
  await writeFile(wheel, made.toJs());
  made.destroy();
}
