import { show as showMarkdown } from "./markdown.mjs";
import { keep, talk } from "./talk.mjs";

const $ = (id) => document.getElementById(id);
const flag = new Int32Array(self.crossOriginIsolated ? new SharedArrayBuffer(4) : 4);
const worker = new Worker("worker.mjs", { type: "module" });

const ANSWERING = "Answering…  Esc stops";
const ENDS = { length: "Cut off: the answer has as many tokens as it may", cancelled: "Stopped" };

let busy = true;
let lost = false;
let model = null;
let kept = null;
let answer = null; // the one in progress: {question, text, shown, turns}
let begun = false;

const megabytes = (bytes) => {
  const [size, unit] = bytes < 1e9 ? [bytes / 1e6, "MB"] : [bytes / 1e9, "GB"];
  return `${size.toLocaleString("en", { maximumFractionDigits: 1 })} ${unit}`;
};
const number = (value) => Math.round(value).toLocaleString("en");

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function ask(job, values = {}, status = "One moment…") {
  if (busy) return;
  flag[0] = 0;
  $("trouble").replaceChildren();
  show(status, true);
  $("said").textContent = status;
  worker.postMessage({ job, ...values });
}

function stop() {
  if (!busy || lost) return;
  Atomics.store(flag, 0, 1);
  worker.postMessage({ job: "stop" });
}

function show(status, isBusy, share = null) {
  busy = isBusy;
  if ($("status").textContent !== status) $("status").textContent = status;
  $("progress").hidden = !busy;
  if (share === null) $("progress").removeAttribute("value");
  else $("progress").value = share;
  const hadFocus = document.activeElement;
  $("send").hidden = busy && !lost;
  $("stop").hidden = !$("send").hidden;
  $("send").disabled = busy || !model;
  $("new").disabled = busy;
  for (const control of $("models").querySelectorAll("button, input[type=file]")) control.disabled = busy;
  if (hadFocus !== document.activeElement || hadFocus?.hidden || hadFocus?.disabled) $("prompt").focus();
}

function fail(kind, words) {
  const close = make("button", { className: "small", type: "button", ariaLabel: "Dismiss", textContent: "×" });
  close.onclick = () => {
    $("trouble").replaceChildren();
    $("prompt").focus();
  };
  $("trouble").replaceChildren(make("p", {}, make("span", {}, make("b", { textContent: kind }), `: ${words}`), close));
}

// the conversation

function follow(change) {
  const list = $("talk");
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  change();
  if (atEnd) list.scrollTop = list.scrollHeight;
}

function turn(role, content) {
  const [kind, who] = role === "user" ? ["you", "You"] : ["model", "Model"];
  const words = make("div", { className: "text" });
  const item = make("li", { className: kind }, make("div", { className: "who", textContent: who }), words);
  if (role === "user") words.textContent = content;
  else showMarkdown(words, content);
  $("talk").append(item);
  $("talk").scrollTop = $("talk").scrollHeight;
  return { item, words };
}

function showEnd(item, { cost, end }) {
  if (end) item.append(make("p", { className: "end", textContent: end }));
  if (cost) item.append(make("p", { className: "cost", textContent: cost }));
}

function showCosts(shown) {
  talk.costs = shown;
  $("costs").ariaPressed = shown;
  $("talk").classList.toggle("costs", shown);
}

function send() {
  const content = $("prompt").value.trim();
  if (!content || busy || !model) return;
  $("prompt").value = "";
  const question = { role: "user", content };
  const asked = turn("user", content).item;
  answer = { question, asked, text: "", shown: "", done: false, ...turn("assistant", "") };
  answer.item.classList.add("writing");
  const messages = [...talk.messages, question].map(({ role, content }) => ({ role, content }));
  ask("ask", { messages }, ANSWERING);
}

function write() {
  if (!answer || answer.shown === answer.text) return;
  if ($("status").textContent !== ANSWERING) show(ANSWERING, true);
  const start = performance.now();
  answer.shown = answer.text;
  follow(() => showMarkdown(answer.words, answer.text));
  answer.pause = 4 * (performance.now() - start); // so that the page lives while it writes
}

function finishAnswer({ text, finish, cached_tokens, evaluated_tokens, completion_tokens, speed }) {
  if (!text && finish === "cancelled") return;
  const read = `${number(cached_tokens)} cached + ${number(evaluated_tokens)} evaluated tokens`;
  const cost = `${read}, ${number(completion_tokens)} new at ${number(speed)} tokens/s`;
  const said = { role: "assistant", content: text, cost, end: ENDS[finish] };
  talk.messages.push(answer.question, said);
  keep();
  answer.shown = answer.text = text;
  answer.done = true;
  answer.item.classList.remove("writing");
  follow(() => {
    showMarkdown(answer.words, text);
    showEnd(answer.item, said);
  });
}

// An answer that failed, or was stopped before its first word: the question can be asked again.
function takeBack({ asked, item, question }) {
  asked.remove();
  item.remove();
  $("prompt").value ||= question.content;
}

// A model that brings the tab down is not loaded again by itself: it is noted once it is there.
function startLoading() {
  talk.model = null;
  keep();
}

// After a reload: with the same model, if it is at hand.
function goOn() {
  begun = true;
  if (!talk.messages.length) return;
  const { name, using } = talk.model ?? {};
  if (using === "demo" || kept?.models.some(({ sha256 }) => sha256 === using)) {
    startLoading();
    ask(...(using === "demo" ? ["demo", {}] : ["use", { sha256: using }]), `Loading ${name}…`);
  } else show(name ? `To go on, load ${name} again, or another model` : "To go on, choose a model", false);
}

// models

function keptItem(name, about, buttons) {
  const line = make("div", { className: "line" });
  for (const [label, job, values, status] of buttons) {
    const button = make("button", { className: "small", type: "button", textContent: label });
    button.ariaLabel = `${label} ${name}`;
    button.onclick = () => ask(job, values, status);
    line.append(button);
  }
  const words = make("span", { className: "quiet", textContent: about });
  return make("li", {}, make("span", { className: "name", textContent: name }), words, line);
}

function showKept() {
  const items = kept.models.map(({ name, size, sha256, kept: when }) => {
    const used = kept.using === sha256;
    const about = `${megabytes(size)} · ${new Date(when).toLocaleDateString([], { day: "numeric", month: "short" })}`;
    const use = ["Use", "use", { sha256 }, `Loading ${name}…`];
    const remove = ["Delete", "delete", { sha256 }, `Deleting ${name}…`];
    const item = keptItem(name, about, used ? [remove] : [use, remove]);
    item.title = `sha256 ${sha256}`;
    item.classList.toggle("used", used);
    return item;
  });
  const parts = kept.unfinished.map(({ name, url, size, total }) =>
    keptItem(name, `${megabytes(size)}${total ? ` of ${megabytes(total)}` : ""}`, [
      ["Resume", "url", { url }, `Downloading ${name}…`],
      ["Delete", "discard", { url }, `Deleting ${name}…`],
    ]),
  );
  $("kept").replaceChildren(...items, ...parts);
  const room = `${megabytes(kept.used)} in use, room for ${megabytes(kept.free)}`;
  $("space").textContent = kept.why || (items.length + parts.length ? room : `Nothing yet; ${room}`);
}

function take(file) {
  if (!file || busy) return;
  navigator.storage?.persist?.();
  ask("file", { file }, `Reading ${file.name}…`);
}

// messages from the worker

const events = {
  idle({ status }) {
    if (answer && !answer.done) takeBack(answer);
    $("said").textContent = answer?.done ? answer.words.textContent.trim() : status;
    answer = null;
    show(status, false);
    if (!begun) goOn();
    navigator.serviceWorker?.register("offline.js").catch(() => {}); // if it fails, the page needs the network
  },
  busy({ status }) {
    show(status, true);
    startLoading();
  },
  progress({ doing, done, total, note }) {
    const whole = total ? ` of ${megabytes(total)}` : "";
    show(`${doing}: ${megabytes(done)}${whole}${note && `; ${note}`}`, true, total ? done / total : null);
  },
  prefill: ({ done, total }) => show(`Reading the prompt: ${number(done)} of ${number(total)} tokens`, true, done / total),
  loaded(loaded) {
    model = loaded;
    const threads = loaded.threads > 1 ? `, ${loaded.threads} threads` : "";
    const where = make("span", { textContent: ` on the ${loaded.backend} backend${threads}` });
    $("about").replaceChildren(loaded.name, where);
    $("talk").dataset.empty = "Ask it something.";
    if (matchMedia("(max-width: 48rem)").matches) $("models").open = false;
    $("prompt").focus();
  },
  text({ text }) {
    if (answer.shown === answer.text) setTimeout(requestAnimationFrame, answer.pause ?? 0, write);
    answer.text += text;
  },
  answered: finishAnswer,
  kept(all) {
    kept = all;
    showKept();
    if (model) talk.model = { name: model.name, using: kept.using };
    keep();
  },
  failed: ({ kind, words }) => fail(kind, words),
  broken({ words }) {
    lost = true;
    show("Python could not be started", true);
    $("progress").hidden = true;
    fail("This browser cannot run the page", `${words}. Chrome 137 and Firefox 145 can.`);
  },
};

worker.onmessage = ({ data }) => events[data.event](data);
worker.onerror = (error) => {
  error.preventDefault();
  events.broken({ words: error.message || "its worker did not start" });
};
worker.postMessage(flag);

// what the user does

$("demo").onclick = () => ask("demo", {}, "Loading the model…");
$("new").onclick = () => {
  talk.messages = [];
  $("talk").replaceChildren();
  keep();
  if (model) ask("new");
};
$("costs").onclick = () => {
  showCosts(!talk.costs);
  keep();
};
$("stop").onclick = stop;
$("file").onchange = ({ target }) => {
  take(target.files[0]);
  target.value = "";
};
$("fetch").onsubmit = (event) => {
  event.preventDefault();
  const url = new URL($("url").value.trim(), location);
  if (url.origin === location.origin) {
    navigator.storage?.persist?.();
    ask("url", { url: url.href }, "Downloading…");
  } else fail("Another server", `this page may only connect to ${location.origin}`);
};
$("ask").onsubmit = (event) => {
  event.preventDefault();
  send();
};
$("prompt").onkeydown = (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    send();
  }
};
document.onkeydown = ({ key }) => {
  if (key === "Escape") stop();
};
document.ondragover = (event) => {
  event.preventDefault();
  $("drop").classList.add("over");
};
document.ondragleave = ({ relatedTarget }) => {
  if (!relatedTarget) $("drop").classList.remove("over");
};
document.ondrop = (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  take(event.dataTransfer.files[0]);
};
self.onpagehide = () => {
  const draft = $("prompt").value;
  if (!answer || answer.done) keep({ draft });
  else if (!answer.text) keep({ draft: draft || answer.question.content });
  else {
    const said = { role: "assistant", content: answer.text, end: ENDS.cancelled };
    keep({ draft, messages: [...talk.messages, answer.question, said] });
  }
};

for (const said of talk.messages) showEnd(turn(said.role, said.content).item, said);
$("prompt").value = talk.draft;
showCosts(talk.costs);
show("Starting Python…", true);
