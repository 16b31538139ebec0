// node start.mjs PYODIDE FILE WHEEL...: starts Pyodide's Python, imports llama-bridge from the wheels, and writes the memory, compressed.
import { readFile, writeFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";

// What pages import. Python's own `js` is written as what it is, but nothing else of JavaScript may be held by a module.
const MODULES = [
  "llama_bridge.aio",
  "llama_bridge.local.local_runtime",
  "llama_bridge.chat.module.browser_host",
  "llama_bridge.chat.module.host",
  "llama_bridge.chat.stream",
  "llama_bridge_wasm.backend",
  "llama_bridge_wasm.hosts.browser.threads",
  "llama_bridge_wasm.hosts.browser.guest",
  "llama_bridge_wasm.store",
];
const OF_PYTHON = ["array", "asyncio", "datetime", "email.utils", "encodings.cp437", "hashlib", "importlib.metadata", "pyodide.ffi", "urllib.parse"];

const [runtime, file, ...wheels] = process.argv.slice(2);
const { loadPyodide } = await import(pathToFileURL(`${runtime}/pyodide.mjs`));
process.argv[1] = "start.mjs"; // Python keeps it; where this file lies is nobody's business
const python = await loadPyodide({ indexURL: runtime, _makeSnapshot: true });
const extractDir = python.runPython("import site; site.getsitepackages()[0]"); // where the page's worker puts them, too
for (const wheel of wheels) python.unpackArchive(new Uint8Array(await readFile(wheel)), "wheel", { extractDir });
python.runPython(`import ${[...OF_PYTHON, ...MODULES].join(", ")}`);
python.runPython("from llama_bridge import registry; registry.backends()"); // looked for once
await writeFile(file, gzipSync(python.makeMemorySnapshot(), { level: 9 }));
