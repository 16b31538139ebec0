// Keeps conversations in this browser: IndexedDB, or memory where that is switched off. Tabs tell each other of changes.
import { Trouble } from "./client.mjs";
import { keptTalk, merge } from "./talk.mjs";
import { t } from "./words.mjs";

const NAME = "llama-bridge";
const PATIENCE = 3000; // milliseconds for a storage that may never say anything

const settled = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

const finished = (transaction) =>
  new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error);
  });

export const headOf = ({ id, title, changed }) => ({ id, title, changed });

/** lasting: whether it is still there after the window is closed. changed(id) is called when another tab changed one. */
export async function openShelf(changed) {
  try {
    const tell = channelOf(changed);
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => {
      for (const name of ["heads", "talks"]) request.result.createObjectStore(name, { keyPath: "id" });
    };
    const never = new Promise((_, reject) => setTimeout(reject, PATIENCE));
    const base = await Promise.race([settled(request), never]);
    navigator.storage?.persist?.();
    return new Shelf(base, tell);
  } catch {
    return new MemoryShelf();
  }
}

/** Tells other tabs which conversation has changed; where the browser lets no tab hear another, nobody is told. */
function channelOf(changed) {
  try {
    const channel = new BroadcastChannel(NAME);
    channel.onmessage = ({ data }) => changed(data);
    return (id) => channel.postMessage(id);
  } catch {
    return () => {};
  }
}

/** What work returns; what the browser says against it becomes a Trouble that tells the way out. */
async function kept(work) {
  try {
    return await work();
  } catch (error) {
    throw new Trouble("refused", t("notKept", { why: error?.name ?? String(error) }));
  }
}

class Shelf {
  lasting = true;

  constructor(base, tell) {
    this.base = base;
    this.tell = tell;
  }

  heads() {
    return kept(() => settled(this.base.transaction("heads").objectStore("heads").getAll()));
  }

  get(id) {
    return kept(() => settled(this.base.transaction("talks").objectStore("talks").get(id)));
  }

  /** Keep a conversation, with what another tab has added to it. */
  put(talk) {
    return kept(() => this.#put(talk));
  }

  async #put(talk) {
    const transaction = this.base.transaction(["heads", "talks"], "readwrite", { durability: "relaxed" });
    const talks = transaction.objectStore("talks");
    const ended = finished(transaction);
    ended.catch(() => {});
    talks.put(merge(talk, await settled(talks.get(talk.id))));
    transaction.objectStore("heads").put(headOf(talk));
    await ended;
    this.tell(talk.id);
  }

  remove(id) {
    return kept(() => this.#remove(id));
  }

  async #remove(id) {
    const transaction = this.base.transaction(["heads", "talks"], "readwrite");
    for (const name of ["heads", "talks"]) transaction.objectStore(name).delete(id);
    await finished(transaction);
    this.tell(id);
  }

  /** Those in which these words were said, or that have them in their title. */
  async find(words) {
    const talks = await kept(() => settled(this.base.transaction("talks").objectStore("talks").getAll()));
    return new Set(talks.filter((talk) => says(talk, words)).map(({ id }) => id));
  }
}

class MemoryShelf {
  lasting = false;
  talks = new Map();

  async heads() {
    return [...this.talks.values()].map(headOf);
  }

  async get(id) {
    return structuredClone(this.talks.get(id));
  }

  async put(talk) {
    this.talks.set(talk.id, structuredClone(talk));
  }

  async remove(id) {
    this.talks.delete(id);
  }

  async find(words) {
    return new Set([...this.talks.values()].filter((talk) => says(talk, words)).map(({ id }) => id));
  }
}

function says(talk, words) {
  const wanted = words.toLowerCase();
  const { title, messages } = keptTalk(talk);
  const texts = [title, ...Object.values(messages).map(({ text }) => text)];
  return texts.some((text) => text.toLowerCase().includes(wanted));
}
