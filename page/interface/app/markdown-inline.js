/** The marks inside a paragraph of Markdown: code, emphasis, and links to web pages. */

import { newElement } from "./page-element.js";

/** The most marks inside each other; what lies deeper is text. */
const MOST_DEPTH = 8;

/** The longest text in characters in which marks are looked for, so that a paragraph without end costs no time. */
const MOST_LENGTH = 20_000;

const ESCAPABLE = /[!-/:-@[-`{-~]/;
const WORD = /[\p{L}\p{N}]/u;
const LINK_END = /^\(\s*<?([^\s<>()]*(?:\([^\s<>()]*\)[^\s<>()]*)*)>?(?:\s+(?:"[^"]*"|'[^']*'))?\s*\)/;
const AUTOLINK = /^<(https?:\/\/[^\s<>]*)>/i;

/**
 * The nodes that a paragraph's text is shown by.
 *
 * @param {string} text
 * @param {number} [depth] The number of marks around it.
 * @param {boolean} [inLink] Whether one of them is a link, in which no other link may be.
 * @returns {Array<HTMLElement | string>}
 */
export function inline(text, depth = 0, inLink = false) {
  if (depth >= MOST_DEPTH || text.length > MOST_LENGTH) return [text];
  /** @type {Array<HTMLElement | string>} */
  const nodes = [];
  let plain = "";
  let at = 0;
  while (at < text.length) {
    const found = markAt(text, at, depth, inLink);
    if (found.node instanceof HTMLElement) {
      if (plain !== "") nodes.push(plain);
      plain = "";
      nodes.push(found.node);
    } else {
      plain += found.node;
    }
    at = found.end;
  }
  if (plain !== "") nodes.push(plain);
  return nodes;
}

/**
 * The mark or the text that begins at a position, and the position after it.
 *
 * @param {string} text
 * @param {number} at
 * @param {number} depth
 * @param {boolean} inLink
 * @returns {{node: HTMLElement | string, end: number}}
 */
function markAt(text, at, depth, inLink) {
  const sign = text[at];
  if (sign === "\\" && at + 1 < text.length && ESCAPABLE.test(text[at + 1])) return { node: text[at + 1], end: at + 2 };
  if (sign === "`") return codeAt(text, at);
  if (sign === "*" || sign === "_") return emphasisAt(text, at, depth, inLink);
  if (sign === "!" && text[at + 1] === "[") return { node: "![", end: at + 2 }; // no picture is loaded from anywhere
  if (sign === "[" && !inLink) return linkAt(text, at, depth) ?? { node: sign, end: at + 1 };
  if (sign === "<" && !inLink) return autolinkAt(text, at) ?? { node: sign, end: at + 1 };
  return { node: sign, end: at + 1 };
}

/**
 * @param {string} text
 * @param {number} at
 */
function codeAt(text, at) {
  const end = endOfCode(text, at);
  const length = runLength(text, at);
  if (end === null) return { node: text.slice(at, at + length), end: at + length };
  const code = text.slice(at + length, end - length).replace(/\n/g, " ");
  const isPadded = code.startsWith(" ") && code.endsWith(" ") && code.trim() !== "";
  return { node: newElement("code", { text: isPadded ? code.slice(1, -1) : code }), end };
}

/**
 * The position after the code that begins at a position; null where no run of as many backticks ends it.
 *
 * @param {string} text
 * @param {number} at
 */
function endOfCode(text, at) {
  const length = runLength(text, at);
  let close = text.indexOf("`", at + length);
  while (close >= 0) {
    const found = runLength(text, close);
    if (found === length) return close + length;
    close = text.indexOf("`", close + found);
  }
  return null;
}

/**
 * @param {string} text
 * @param {number} at
 * @param {number} depth
 * @param {boolean} inLink
 */
function emphasisAt(text, at, depth, inLink) {
  const run = runLength(text, at);
  const literal = { node: text.slice(at, at + run), end: at + run };
  if (run > 3 || !opens(text, at, run)) return literal;
  const close = closeOf(text, at, run);
  if (close === null) return literal;
  const inner = inline(text.slice(at + run, close), depth + 1, inLink);
  const element = newElement(run === 2 ? "strong" : "em");
  if (run === 3) {
    const strong = newElement("strong");
    strong.append(...inner);
    element.append(strong);
  } else {
    element.append(...inner);
  }
  return { node: element, end: close + run };
}

/**
 * Whether a run of marks may open emphasis: no space follows it, and an underline does not stand inside a word.
 *
 * @param {string} text
 * @param {number} at
 * @param {number} run
 */
function opens(text, at, run) {
  const after = text[at + run] ?? " ";
  return /\S/.test(after) && !(text[at] === "_" && at > 0 && WORD.test(text[at - 1]));
}

/**
 * The position of the run that closes emphasis, of the same length and after no space; null where there is none.
 *
 * @param {string} text
 * @param {number} at
 * @param {number} run
 */
function closeOf(text, at, run) {
  let position = at + run;
  while (position < text.length) {
    if (text[position] === "\\") {
      position += 2;
    } else if (text[position] === "`") {
      position = endOfCode(text, position) ?? position + runLength(text, position);
    } else if (text[position] === text[at]) {
      const length = runLength(text, position);
      const isInWord = text[at] === "_" && WORD.test(text[position + length] ?? " ");
      if (length === run && /\S/.test(text[position - 1]) && !isInWord) return position;
      position += length;
    } else {
      position += 1;
    }
  }
  return null;
}

/**
 * @param {string} text
 * @param {number} at
 * @param {number} depth
 */
function linkAt(text, at, depth) {
  const close = closingBracket(text, at);
  if (close === null) return null;
  const target = LINK_END.exec(text.slice(close + 1, close + 2100));
  const address = target === null ? null : webAddress(target[1]);
  if (target === null || address === null) return null;
  const link = anchor(address);
  link.append(...inline(text.slice(at + 1, close), depth + 1, true));
  return { node: link, end: close + 1 + target[0].length };
}

/**
 * @param {string} text
 * @param {number} at
 */
function autolinkAt(text, at) {
  const found = AUTOLINK.exec(text.slice(at, at + 2100));
  const address = found === null ? null : webAddress(found[1]);
  if (found === null || address === null) return null;
  const link = anchor(address);
  link.textContent = found[1];
  return { node: link, end: at + found[0].length };
}

/**
 * The bracket that closes the one at a position; null where there is none.
 *
 * @param {string} text
 * @param {number} at
 */
function closingBracket(text, at) {
  let open = 0;
  for (let position = at; position < text.length; position += 1) {
    if (text[position] === "\\") position += 1;
    else if (text[position] === "[") open += 1;
    else if (text[position] === "]" && (open -= 1) === 0) return position;
  }
  return null;
}

/**
 * The address of a page on the web; null for any other, such as a script or a page of this site.
 *
 * @param {string} text
 */
function webAddress(text) {
  if (!/^https?:\/\//i.test(text) || !URL.canParse(text)) return null;
  const { protocol } = new URL(text);
  return protocol === "http:" || protocol === "https:" ? text : null;
}

/** @param {string} address */
function anchor(address) {
  const link = newElement("a");
  link.href = address;
  link.target = "_blank";
  link.rel = "noopener noreferrer nofollow";
  return link;
}

/**
 * How often a character follows itself.
 *
 * @param {string} text
 * @param {number} at
 */
function runLength(text, at) {
  let end = at + 1;
  while (text[end] === text[at]) end += 1;
  return end - at;
}
