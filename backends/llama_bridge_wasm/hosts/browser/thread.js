// A worker that runs one thread of llama.wasm: its own instance over the memory that all threads share.
// threads.py starts it with { states, said, index } and then sends { module, memory, pointer } for each thread.
"use strict";

const NOT_IMPLEMENTED = 52;
const BUSY_NO_MORE = 0;
let states, said, index;

onmessage = ({ data }) => {
  if (data.states) {
    ({ states, said, index } = data);
    postMessage("ready");
  } else run(data);
};

function run({ module, memory, pointer }) {
  let exports = null;
  let last = "";
  const wasi = {
    fd_write(_fd, vectors, count, written) {
      const view = new DataView(memory.buffer);
      let total = 0;
      for (let i = 0; i < count; i++) {
        const at = view.getUint32(vectors + 8 * i, true);
        const size = view.getUint32(vectors + 8 * i + 4, true);
        last = new TextDecoder().decode(new Uint8Array(memory.buffer, at, size).slice()).trim() || last;
        total += size;
      }
      view.setUint32(written, total, true);
      return 0;
    },
    proc_exit() {}, // `unreachable` follows
  };
  const imports = {
    env: { memory },
    lb_host: { stop: () => 0, spawn: () => -1 },
    wasi_snapshot_preview1: new Proxy(wasi, { get: (known, name) => known[name] ?? (() => NOT_IMPLEMENTED) }),
  };
  try {
    exports = new WebAssembly.Instance(module, imports).exports;
    exports.lb_thread_start(pointer);
  } catch (error) {
    const words = new TextEncoder().encode(last ? `${error.message}. It last said: ${last}` : error.message);
    said.set(words.subarray(0, said.length));
    exports?.lb_kill(); // or the others would wait for this one forever
  }
  Atomics.store(states, index, BUSY_NO_MORE);
  Atomics.notify(states, index);
}
