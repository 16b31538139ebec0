// node start.mjs PYODIDE FILE WHEEL...: starts Pyodide's Python, imports llama-bridge from the wheels, and writes the memory, compressed.
import { readFile, writeFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";

// Modules that hold nothing of JavaScript, which could not be written.
const MODULES = ["llama_bridge.aio", "llama_bridge.local.local_runtime", "llama_bridge.chat.module.host", "llama_bridge_wasm.backend"];
const OF_PYTHON = ["array", "datetime", "email.utils", "encodings.cp437", "hashlib", "importlib.metadata", "urllib.parse"];

const [runtime, file, ...wheels] = process.argv.slice(2);
const { loadPyodide } = await import(pathToFileURL(`${runtime}/pyodide.mjs`));
process.argv[1] = "start.mjs"; // Python keeps it; where this file lies is nobody's business
const python = await loadPyodide({ indexURL: runtime, _makeSnapshot: true });
for (const wheel of wheels) python.unpackArchive(new Uint8Array(await readFile(wheel)), "wheel");
python.runPython(`import ${[...OF_PYTHON, ...MODULES].join(", ")}`);
await writeFile(file, gzipSync(python.makeMemorySnapshot(), { level: 9 }));
