import { loadPyodide } from "./pyodide/pyodide.mjs";

const url = (path) => new URL(path, location).href;
const wheels = await (await fetch("wheels.json")).json();
const python = await loadPyodide({ packages: wheels.micropip.map(url), stdout: (line) => postMessage(line) });
await python.pyimport("micropip").install.callKwargs(wheels.llama_bridge.map(url), { deps: false });
await python.runPythonAsync(`
from llama_bridge import Capability, LlamaBridge

with LlamaBridge("demo") as llama:  # or the path of a GGUF file
    print(llama.generate("Hello! My name is Zorblax."))
    print(llama.generate_continue("What is my name?"))

    if Capability.SESSION_PERSISTENCE in llama.capabilities:
        llama.session_save("chat.session")  # later: llama.session_load("chat.session")
    else:
        print(f"the {llama.backend} backend keeps no sessions")
`);
