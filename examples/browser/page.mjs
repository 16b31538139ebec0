const $ = (id) => document.getElementById(id);
const flag = new Int32Array(self.crossOriginIsolated ? new SharedArrayBuffer(4) : 4);
const worker = new Worker("worker.mjs", { type: "module" });

const ANSWERING = "Answering…  Esc stops";

let busy = true;
let lost = false;
let model = null;
let kept = null;
let answer = null;
let heard = "";

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
  $("new").disabled = busy || !model;
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
  const talk = $("talk");
  const atEnd = talk.scrollHeight - talk.scrollTop - talk.clientHeight < 40;
  change();
  if (atEnd) talk.scrollTop = talk.scrollHeight;
}

function turn(kind, who, text) {
  const words = make("div", { className: "text", textContent: text });
  const item = make("li", { className: kind }, make("div", { className: "who", textContent: who }), words);
  $("talk").append(item);
  $("talk").scrollTop = $("talk").scrollHeight;
  return { item, words };
}

function send() {
  const prompt = $("prompt").value.trim();
  if (!prompt || busy || !model) return;
  $("prompt").value = "";
  turn("you", "You", prompt);
  answer = turn("model writing", "Model", "");
  ask("ask", { prompt }, ANSWERING);
}

function write() {
  if (!heard) return;
  if ($("status").textContent !== ANSWERING) show(ANSWERING, true);
  follow(() => answer.words.append(heard));
  heard = "";
}

function finishAnswer(done) {
  heard = "";
  const mode = done.mode[0].toUpperCase() + done.mode.slice(1);
  const read = `${number(done.cached_tokens)} cached + ${number(done.evaluated_tokens)} evaluated tokens`;
  const speed = `${number(done.completion_tokens)} new at ${number(done.speed)} tokens/s`;
  follow(() => {
    answer.words.textContent = done.text;
    const line = (className, textContent) => answer.item.append(make("p", { className, textContent }));
    line("cost", `${mode} (${done.finish}): ${read}, ${speed}`);
    if (done.fallback) line("why", `Why fresh: ${done.fallback}`);
  });
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
    write();
    if (answer && !answer.words.textContent && !answer.item.querySelector(".cost")) answer.item.remove();
    answer?.item.classList.remove("writing");
    $("said").textContent = answer?.words.textContent || status;
    answer = null;
    show(status, false);
    navigator.serviceWorker?.register("offline.js").catch(() => {}); // if it fails, the page needs the network
  },
  busy: ({ status }) => show(status, true),
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
    $("lacks").replaceChildren(
      ...loaded.lacks.map(({ name, words, why }) =>
        make(
          "li",
          { title: why },
          words,
          make("span", { className: "flag" }, ": it lacks ", make("code", { textContent: name })),
        ),
      ),
    );
    const files = loaded.lacks.find(({ name }) => name === "session_persistence");
    for (const button of files ? [$("open"), $("save")] : []) {
      button.hidden = false;
      button.ariaDescription = button.title = files.why;
      button.onclick = () => {
        $("status").textContent = $("said").textContent = files.why;
      };
    }
    $("talk").replaceChildren();
    $("talk").dataset.empty = "Ask it something.";
    if (matchMedia("(max-width: 48rem)").matches) $("models").open = false;
    $("prompt").focus();
  },
  new: () => $("talk").replaceChildren(),
  text({ text }) {
    if (!heard) requestAnimationFrame(write); // nobody reads faster than that
    heard += text;
  },
  answered: finishAnswer,
  kept(all) {
    kept = all;
    showKept();
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
$("new").onclick = () => ask("new");
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
show("Starting Python…", true);
