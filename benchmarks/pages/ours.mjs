// The page's side: a call to the worker for each run.
const worker = new Worker("ours-worker.mjs", { type: "module" });
const waiting = [];
worker.onmessage = ({ data }) => waiting.shift()(data);
const ask = (data) => new Promise((answer) => (waiting.push(answer), worker.postMessage(data)));
globalThis.load = (...args) => ask(["load", ...args]);
globalThis.about = () => ask(["about"]);
globalThis.run = (...args) => ask(["run", ...args]);
globalThis.first = () =>
  new Promise((answer) => {
    const other = new Worker("first.mjs", { type: "module" });
    other.onmessage = ({ data }) => (other.terminate(), answer(data));
    other.onerror = ({ message }) => answer(message);
  });
