import { loadPyodide } from "./pyodide/pyodide.mjs";

const url = (path) => new URL(path, location).href;
const wheels = await (await fetch("wheels.json")).json();
const python = await loadPyodide({ packages: wheels.micropip.map(url), stdout: (line) => postMessage(line) });
await python.pyimport("micropip").install.callKwargs(wheels.llama_bridge.map(url), { deps: false });
await python.runPythonAsync(`
from llama_bridge import LlamaBridge

messages = []
with LlamaBridge("demo") as llama:  # or the path of a GGUF file
    for question in ("Hello! My name is Zorblax.", "What is my name?"):
        messages.append({"role": "user", "content": question})
        answer = llama.chat(messages)
        messages.append(answer.message)
        print(answer)
`);
