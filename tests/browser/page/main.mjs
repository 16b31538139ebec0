// What happens, in order: whoever drives the browser takes it out of here.
globalThis.messages = [];
const say = (kind, data) => messages.push({ kind, data });
const worker = new Worker("worker.mjs", { type: "module" });
worker.onmessage = (event) => say(...event.data);
worker.onerror = (event) => say("error", event.message);
