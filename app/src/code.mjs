// Code blocks: what language it is, a button that copies, and colours for the languages that people ask about most.
import hljs from "highlight.js/lib/core";
import bash from "highlight.js/lib/languages/bash";
import c from "highlight.js/lib/languages/c";
import cpp from "highlight.js/lib/languages/cpp";
import csharp from "highlight.js/lib/languages/csharp";
import css from "highlight.js/lib/languages/css";
import diff from "highlight.js/lib/languages/diff";
import go from "highlight.js/lib/languages/go";
import ini from "highlight.js/lib/languages/ini";
import java from "highlight.js/lib/languages/java";
import javascript from "highlight.js/lib/languages/javascript";
import json from "highlight.js/lib/languages/json";
import kotlin from "highlight.js/lib/languages/kotlin";
import markdown from "highlight.js/lib/languages/markdown";
import python from "highlight.js/lib/languages/python";
import ruby from "highlight.js/lib/languages/ruby";
import rust from "highlight.js/lib/languages/rust";
import sql from "highlight.js/lib/languages/sql";
import typescript from "highlight.js/lib/languages/typescript";
import xml from "highlight.js/lib/languages/xml";
import yaml from "highlight.js/lib/languages/yaml";
import DOMPurify from "dompurify";
import { copyText, done, icon, make } from "./dom.mjs";
import { t } from "./words.mjs";

const LANGUAGES = { bash, c, cpp, csharp, css, diff, go, ini, java, javascript, json, kotlin, markdown, python, ruby, rust, sql, typescript, xml, yaml };
for (const [name, language] of Object.entries(LANGUAGES)) hljs.registerLanguage(name, language);

const MOST = 20_000; // characters: more would hold up the page while it grows
const ONLY_COLOURS = { ALLOWED_TAGS: ["span"], ALLOWED_ATTR: ["class"], RETURN_DOM_FRAGMENT: true };

/** A block of code; what it says is taken as text. */
export function codeBlock(text, language = "") {
  const code = make("code", { className: "hljs", textContent: text });
  if (hljs.getLanguage(language) && text.length < MOST) {
    const { value } = hljs.highlight(text, { language, ignoreIllegals: true });
    code.replaceChildren(DOMPurify.sanitize(value, ONLY_COLOURS));
  }
  const copy = make("button", { type: "button", className: "copy", ariaLabel: t("copyCode") }, icon("copy"), icon("check"));
  copy.append(make("span", { textContent: t("copy") }));
  copy.onclick = () => copyText(text).then(() => done(copy));
  const bar = make("div", { className: "code-bar" }, make("span", { textContent: language || t("code") }), copy);
  return make("div", { className: "code", dir: "ltr" }, bar, make("pre", { tabIndex: 0 }, code));
}
