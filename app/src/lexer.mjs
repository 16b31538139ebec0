// Reads Markdown from a stranger, in a time that grows with its length: what marked would think about for long stays text.
import { Lexer, Tokenizer } from "marked";

// Lists and quotes in each other, by their marks in one line or by its indentation: a browser lays them out within each other,
// and a thousand of them end the tab.
const DEEP = /^(?:[ \t]*(?:>[ \t]?|(?:[-*+]|\d{1,9}[.)])[ \t]+){30}|(?: {0,3}\t| {4}){30}[ \t]*(?:[-*+>]|\d{1,9}[.)])[ \t])/m;
const LONG = /[!-~]{1000}/; // a word in which an address may begin anywhere
const MOST = 3000; // characters: the time for emphasis grows with the square of a paragraph
const MOST_STRUCK = 600; // for what is struck out, it grows even faster
const COLOURED = 8; // characters of code for each element

class CarefulTokenizer extends Tokenizer {
  html() {} // is text

  tag() {}

  emStrong(text, whole, before) {
    return whole.length < MOST ? super.emStrong(text, whole, before) : undefined;
  }

  del(text, whole, before) {
    return whole.length < MOST_STRUCK ? super.del(text, whole, before) : undefined;
  }
}

class CarefulLexer extends Lexer {
  inlineTokens(text, tokens = []) {
    if (!LONG.test(text)) return super.inlineTokens(text, tokens);
    tokens.push({ type: "text", raw: text, text, escaped: false });
    return tokens;
  }
}

/** The blocks of a text. Throws an Error if they are in each other too deep. */
export function read(text, options) {
  if (DEEP.test(text)) throw new Error("nested too deep");
  return new CarefulLexer({ ...options, tokenizer: new CarefulTokenizer() }).lex(text);
}

/** About how many elements a token becomes. */
export function weightOf({ type, text, tokens = [], items = [], header, rows }) {
  if (type === "code") return 6 + text.length / COLOURED;
  const cells = type === "table" ? [header, ...rows].flat() : [];
  return [...tokens, ...items, ...cells].reduce((sum, one) => sum + weightOf(one), 1);
}
