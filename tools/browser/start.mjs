// node start.mjs PYODIDE FILE: starts Pyodide's Python with what llama-bridge imports of it, and writes its memory, compressed.
import { writeFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";

const [runtime, file] = process.argv.slice(2);
const { loadPyodide } = await import(pathToFileURL(`${runtime}/pyodide.mjs`));
process.argv[1] = "start.mjs"; // Python keeps it; where this file lies is nobody's business
const python = await loadPyodide({ indexURL: runtime, _makeSnapshot: true });
python.runPython("import array, datetime, email.utils, encodings.cp437, hashlib, importlib.metadata, urllib.parse");
await writeFile(file, gzipSync(python.makeMemorySnapshot(), { level: 9 }));
