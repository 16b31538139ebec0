// A conversation with the server, by /v1/responses: each answer goes on from the one before, whose session the server has.

const $ = (id) => document.getElementById(id);
const talk = $("talk");
let previous = null; // the id of the last response
let key = "";
let running = null; // ends the answer that is being written

/** Ask the server; an error of its own becomes one here. */
async function ask(path, options = {}) {
  const headers = { "Content-Type": "application/json" };
  if (key) headers.Authorization = `Bearer ${key}`;
  const answer = await fetch(path, { ...options, headers });
  if (answer.ok) return answer;
  $("unlock").hidden = answer.status !== 401;
  const told = await answer.json().catch(() => null);
  throw new Error(told?.error?.message ?? `the server answered ${answer.status}`);
}

/** The events of a stream, each as the value of its data. */
async function* events(answer) {
  let rest = "";
  for await (const text of answer.body.pipeThrough(new TextDecoderStream())) {
    const parts = (rest + text).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const line = part.split("\n").find((one) => one.startsWith("data: "));
      if (line) yield JSON.parse(line.slice(6));
    }
  }
}

function add(who, text = "") {
  const item = document.createElement("li");
  item.className = who;
  item.append(text);
  talk.append(item);
  item.scrollIntoView({ block: "end" });
  return item;
}

function small(item, kind, text) {
  const part = document.createElement("span");
  part.className = kind;
  part.append(text);
  item.append(part);
  return part;
}

function cost(usage) {
  const { input_tokens, input_tokens_details: details, output_tokens } = usage;
  return `${details.cached_tokens} of ${input_tokens} tokens cached, ${output_tokens} written`;
}

async function send(input) {
  $("trouble").textContent = "";
  add("you", input);
  const item = add("model");
  let thought = null;
  running = new AbortController();
  $("send").hidden = true;
  $("stop").hidden = false;
  try {
    const body = { model: $("model").value, input, stream: true };
    if (previous) body.previous_response_id = previous;
    const answer = await ask("v1/responses", {
      method: "POST",
      body: JSON.stringify(body),
      signal: running.signal,
    });
    for await (const event of events(answer)) {
      if (event.type === "response.output_text.delta") {
        item.append(event.delta);
      } else if (event.type === "response.reasoning_text.delta") {
        thought ??= small(item, "thought", "");
        thought.append(event.delta);
      } else if (event.type === "response.completed" || event.type === "response.incomplete") {
        previous = event.response.id;
        small(item, "cost", cost(event.response.usage));
      } else if (event.type === "response.failed") {
        throw new Error(event.response.error.message);
      }
      talk.scrollTop = talk.scrollHeight;
    }
  } catch (error) {
    if (error.name === "AbortError") {
      small(item, "cost", "stopped; the conversation goes on from before this question");
    } else {
      $("trouble").textContent = error.message;
      if (!item.textContent) item.remove();
    }
  } finally {
    running = null;
    $("send").hidden = false;
    $("stop").hidden = true;
    $("prompt").focus();
  }
}

async function list() {
  const { data } = await (await ask("v1/models")).json();
  $("model").replaceChildren(...data.map((model) => new Option(model.id)));
  $("trouble").textContent = "";
}

function restart() {
  running?.abort();
  previous = null;
  talk.replaceChildren();
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const input = $("prompt").value.trim();
  if (!input || running) return;
  $("prompt").value = "";
  void send(input);
});
$("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("ask").requestSubmit();
  }
});
$("unlock").addEventListener("submit", (event) => {
  event.preventDefault();
  key = $("key").value.trim();
  list().then(() => ($("unlock").hidden = true), tell);
});
$("stop").addEventListener("click", () => running?.abort());
$("new").addEventListener("click", restart);
$("model").addEventListener("change", restart); // a response belongs to its model

function tell(error) {
  $("trouble").textContent = error.message;
}

list().catch(tell);
