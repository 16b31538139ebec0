// Shows Markdown from a model, that is, from a stranger: HTML in it is shown as text, and nothing in it loads or runs.
import DOMPurify from "dompurify";
import { Marked } from "marked";
import { codeBlock } from "./code.mjs";
import { make } from "./dom.mjs";

const escape = (text) => text.replace(/[&<>"']/g, (letter) => `&#${letter.charCodeAt()};`);
const MOST = 3000; // characters: marked's time for emphasis grows with the square of a paragraph
// Lists and quotes in each other, by their marks in one line or by its indentation: a browser lays them out within each other,
// and a thousand of them end the tab.
const DEEP = /^[ \t]*(?:(?:>[ \t]?|(?:[-*+]|\d{1,9}[.)])[ \t]+){30}|(?: {120}|\t{30})[ \t]*(?:[-*+>]|\d{1,9}[.)])[ \t])/m;
const asUsual = false;
const nothing = undefined;

const marked = new Marked({
  breaks: true,
  tokenizer: {
    html: () => nothing,
    tag: () => nothing,
    emStrong: (_, whole) => (whole.length < MOST ? asUsual : nothing),
  },
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

/** Renders again only what has changed: while an answer grows, that is its last block. */
export function show(place, text) {
  try {
    if (DEEP.test(text)) throw new Error("nested too deep");
    const all = marked.lexer(text);
    const links = JSON.stringify(all.links);
    const tokens = all.filter(({ type }) => type !== "space" && type !== "def");
    const sources = tokens.map(({ raw }) => raw + links);
    const blocks = [...place.children];
    let same = 0;
    while (same < blocks.length && blocks[same].source === sources[same]) same++;
    const html = tokens.slice(same).map((token) => `<div>${marked.parser([token])}</div>`);
    const made = [...clean(html.join("")).children];
    if (made.length !== html.length) throw new Error("a block is not whole");
    made.forEach((block, i) => {
      block.source = sources[same + i];
      block.dir = "auto";
    });
    if (same) blocks.slice(same).forEach((block) => block.remove());
    else place.replaceChildren();
    place.append(...made);
  } catch {
    place.textContent = text;
  }
}
