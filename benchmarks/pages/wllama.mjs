import { LoggerWithoutDebug, Wllama } from "./wllama/index.js";

const wllama = new Wllama({ default: new URL("wllama/wasm/wllama.wasm", location).href }, { logger: LoggerWithoutDebug });

globalThis.load = async (url, n_ctx, n_threads) => {
  const blob = await (await fetch(url)).blob();
  const clock = performance.now();
  await wllama.loadModel([blob], { n_ctx, n_threads, n_batch: 512, n_gpu_layers: 0, flash_attn: true });
  return { seconds: (performance.now() - clock) / 1000, threads: wllama.getNumThreads() };
};

globalThis.run = async (prompt, n) => {
  const { timings } = await wllama.createCompletion({ prompt, max_tokens: n, temperature: 0, cache_prompt: false });
  return {
    n_prompt: timings.prompt_n,
    prompt_seconds: timings.prompt_ms / 1000,
    n: timings.predicted_n,
    seconds: timings.predicted_ms / 1000,
  };
};
