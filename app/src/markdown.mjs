// Shows Markdown from a model, that is, from a stranger: HTML in it is shown as text, and nothing in it loads or runs.
import DOMPurify from "dompurify";
import { Marked } from "marked";
import { codeBlock } from "./code.mjs";
import { make } from "./dom.mjs";
import { read, weightOf } from "./lexer.mjs";
import { t } from "./words.mjs";

const escape = (text) => text.replace(/[&<>"']/g, (letter) => `&#${letter.charCodeAt()};`);

// What is more than this stays text, so that no answer holds up the page while it grows.
const MOST_LETTERS = 40_000; // that are read each time
const MOST_ELEMENTS = 5000;
const MOST_IN_BLOCK = 3000; // which is laid out again each time
const PIECE = 4000; // characters of text that are laid out at once

const marked = new Marked({
  breaks: true,
  renderer: {
    image: ({ text, href }) => escape(text || href), // to fetch it would tell its server what was said
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
    code: ({ text, lang = "" }) => `<pre title="${escape(lang.split(/\s/, 1)[0])}">${escape(text)}</pre>`,
  },
});

const TAGS = "div p br hr h1 h2 h3 h4 h5 h6 strong em del code pre ul ol li blockquote a table thead tbody tr th td";
const ALLOWED = {
  ALLOWED_TAGS: TAGS.split(" "),
  ALLOWED_ATTR: ["href", "start", "align", "title"],
  ALLOW_ARIA_ATTR: false,
  ALLOW_DATA_ATTR: false,
  ADD_URI_SAFE_ATTR: ["start", "align"], // their values are no addresses
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  RETURN_DOM_FRAGMENT: true,
};

/** The second fence, should the first have a hole. */
export function clean(html) {
  const made = DOMPurify.sanitize(html, ALLOWED);
  for (const link of made.querySelectorAll("a[href]")) {
    Object.assign(link, { target: "_blank", rel: "noopener noreferrer nofollow", title: link.href });
  }
  for (const pre of made.querySelectorAll("pre")) pre.replaceWith(codeBlock(pre.textContent, pre.title));
  for (const table of made.querySelectorAll("table")) {
    const frame = make("div", { className: "table", tabIndex: 0 });
    table.replaceWith(frame);
    frame.append(table);
  }
  return made;
}

/** Renders again only what has changed: while an answer grows, that is its last block. place.times: how much more than usual is shown. */
export function show(place, text) {
  place.times ??= 1;
  place.more?.remove();
  try {
    const pieces = piecesOf(place, text);
    render(place, pieces);
    if (pieces.some(({ token }) => !token)) place.append((place.more = moreOf(place, text)));
  } catch {
    render(place, asText(text));
  }
}

function moreOf(place, text) {
  const button = make("button", { type: "button", textContent: t("showMarkdown") });
  button.onclick = () => {
    place.times *= 4;
    show(place, text);
  };
  return make("p", { className: "more-words" }, t("tooMuch"), " ", button);
}

/** A text as blocks that are Markdown, each with its token, and pieces of what stays text. source: two with the same look the same. */
function piecesOf(place, text) {
  const most = place.times * MOST_LETTERS;
  const head = text.length > most ? text.slice(0, endBefore(text, most)) : text;
  if (place.head !== head || place.headTimes !== place.times) {
    Object.assign(place, { head, headTimes: place.times, headPieces: markdownOf(head, place.times) });
  }
  return [...place.headPieces, ...asText(text.slice(head.length))];
}

function markdownOf(text, times) {
  const all = read(text, marked.defaults);
  const links = JSON.stringify(all.links);
  const pieces = [];
  let sum = 0;
  let rest = ""; // that stays text
  for (const token of all) {
    const { type, raw } = token;
    const weight = 1 + weightOf(token);
    if (type === "space" || type === "def") rest &&= rest + raw;
    else if (weight > times * MOST_IN_BLOCK || sum + weight > times * MOST_ELEMENTS) rest += raw;
    else {
      pieces.push(...asText(rest), { source: raw.includes("]") ? raw + links : raw, token });
      rest = "";
      sum += weight;
    }
  }
  return [...pieces, ...asText(rest)];
}

function asText(text) {
  const pieces = [];
  for (let from = 0, to; from < text.length; from = to) {
    to = from + PIECE < text.length ? endBefore(text, from + PIECE, from) : text.length;
    pieces.push({ source: `text:${text.slice(from, to)}` });
  }
  return pieces;
}

/** Where a text can be cut at most so far on: after a line if there is one, and in no letter. */
function endBefore(text, most, from = 0) {
  const line = text.slice(from, most).lastIndexOf("\n") + 1; // no search through all of it
  if (line) return from + line;
  return most - Number(/[\uD800-\uDBFF]/.test(text[most - 1]));
}

function render(place, pieces) {
  const blocks = [...place.children];
  let same = 0;
  while (same < blocks.length && blocks[same].source === pieces[same]?.source) same++;
  const added = pieces.slice(same);
  const html = added.map(({ token }) => (token ? `<div>${marked.parser([token])}</div>` : "<div></div>"));
  const made = [...clean(html.join("")).children];
  if (made.length !== html.length) throw new Error("a block is not whole");
  made.forEach((block, i) => {
    const { source, token } = added[i];
    Object.assign(block, { source, dir: "auto" });
    if (!token) Object.assign(block, { className: "plain", textContent: source.slice("text:".length) });
  });
  if (same) blocks.slice(same).forEach((block) => block.remove());
  else place.replaceChildren();
  place.append(...made);
}
