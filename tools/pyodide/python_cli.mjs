// node python_cli.mjs PROGRAM ARGUMENTS...: the interpreter of a `pyodide venv`, called as PROGRAM.
import { readdirSync } from "node:fs";
import process from "node:process";
import { loadPyodide } from "./pyodide.mjs";

const [program, ...args] = process.argv.slice(2);
// Of these the interpreter has its own.
const own = new Set(["dev", "lib", "proc", "sys"]);

try {
  const python = await loadPyodide({
    args,
    _sysExecutable: program,
    env: { ...process.env, HOME: process.cwd(), PYTHONINSPECT: "" },
    fsInit(FS) {
      for (const name of readdirSync("/").filter((name) => !own.has(name))) {
        FS.mkdirTree(`/${name}`);
        FS.mount(FS.filesystems.NODEFS, { root: `/${name}` }, `/${name}`);
      }
    },
  });
  python.setStdout();
  python.setStderr();
  process.exitCode = python._module._run_main();
} catch (error) {
  if (error.constructor.name !== "ExitStatus") throw error;
  process.exitCode = error.status;
}
process.exit();
