// A conversation as a file: Markdown to read, JSON to take in again.
import { download } from "./dom.mjs";
import { pathTo, readTalk } from "./talk.mjs";
import { t } from "./words.mjs";

const FORMAT = "llama-bridge-conversation";

/** What the file of a conversation is called, without its ending. */
export function stemOf({ title }) {
  const name = title.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 50);
  return name || "conversation";
}

export function saveMarkdown(talk) {
  const parts = [`# ${talk.title}`];
  if (talk.system) parts.push(`> ${talk.system.replaceAll("\n", "\n> ")}`);
  for (const { role, text, files = [] } of pathTo(talk)) {
    const names = files.map(({ name }) => `*${name}*`);
    parts.push(`**${t(role === "user" ? "you" : "model")}**`, ...names, text);
  }
  download(`${stemOf(talk)}.md`, `${parts.join("\n\n")}\n`, "text/markdown");
}

export function saveJson(talk) {
  const text = JSON.stringify({ format: FORMAT, version: 1, conversation: talk }, null, 1);
  download(`${stemOf(talk)}.json`, text, "application/json");
}

/** The conversation in a file. Throws an Error that says what is wrong with the file. */
export async function readFile(file) {
  let found;
  try {
    found = JSON.parse(await file.text());
  } catch {
    throw new Error(t("noJson", { name: file.name }));
  }
  const talk = found?.format === FORMAT ? readTalk(found.conversation) : null;
  if (!talk) throw new Error(t("noConversation", { name: file.name }));
  return talk;
}

const MOST = 2_000_000; // bytes of text: more than any context has room for

/** A file that goes along with a question. */
export async function readAttachment(file) {
  if (file.size > MOST) throw new Error(t("fileTooLarge", { name: file.name }));
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
    if (text.includes("\0")) throw new Error();
    return { name: file.name, text };
  } catch {
    throw new Error(t("noText", { name: file.name }));
  }
}
