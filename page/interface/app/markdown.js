/**
 * Markdown as elements of the page: the part of CommonMark that models write. Every element is made by name and every text
 * is set as text, so that nothing a model writes becomes markup: HTML, images and links to other than web pages stay text.
 */

import { inline } from "./markdown-inline.js";
import { newElement } from "./page-element.js";

/** The most blocks inside each other, such as lists in quotes; what lies deeper is text. */
const MOST_DEPTH = 8;

const FENCE = /^ {0,3}(`{3,}|~{3,})([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]+(.*))?$/;
const RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
const QUOTE = /^ {0,3}> ?(.*)$/;
const ITEM = /^( {0,3})([-*+]|(\d{1,9})[.)])( {1,4}(?! )| *$|[ \t]+)(.*)$/;

/**
 * A block of a text: its kind and its lines.
 *
 * @typedef {object} Block
 * @property {"fence" | "heading" | "rule" | "quote" | "list" | "paragraph"} kind
 * @property {string[]} lines
 */

/** An element that shows a growing text; its blocks that do not change any more stay as they are. */
export class MarkdownView {
  /** @param {HTMLElement} element The empty element that holds the text. */
  constructor(element) {
    this._element = element;
    /** @type {string[]} */
    this._shown = [];
  }

  /** @param {string} text */
  show(text) {
    const found = blocks(text.split("\n"));
    const sources = found.map(({ lines }) => lines.join("\n"));
    const isSame = (/** @type {number} */ index) => index < this._shown.length && this._shown[index] === sources[index];
    let kept = 0;
    while (kept < sources.length && isSame(kept)) kept += 1;
    while (this._element.childElementCount > kept) this._element.lastElementChild?.remove();
    this._element.append(...found.slice(kept).map((block) => rendered(block, 0)));
    this._shown = sources;
  }
}

/**
 * The blocks of a text, without the empty lines between them.
 *
 * @param {readonly string[]} lines
 * @returns {Block[]}
 */
function blocks(lines) {
  const found = [];
  let at = 0;
  while (at < lines.length) {
    if (isBlank(lines[at])) {
      at += 1;
      continue;
    }
    const kind = kindOf(lines[at]);
    const end = endOf(kind, lines, at);
    found.push({ kind, lines: trimmedEnd(lines.slice(at, end)) });
    at = end;
  }
  return found;
}

/**
 * @param {string} line
 * @returns {Block["kind"]}
 */
function kindOf(line) {
  if (FENCE.test(line)) return "fence";
  if (HEADING.test(line)) return "heading";
  if (RULE.test(line)) return "rule";
  if (QUOTE.test(line)) return "quote";
  return ITEM.test(line) ? "list" : "paragraph";
}

/**
 * The line after the block that begins at a line.
 *
 * @param {Block["kind"]} kind
 * @param {readonly string[]} lines
 * @param {number} start
 */
function endOf(kind, lines, start) {
  if (kind === "heading" || kind === "rule") return start + 1;
  if (kind === "fence") return endOfFence(lines, start);
  if (kind === "list") return endOfList(lines, start);
  let end = start + 1;
  const goesOn = (/** @type {string} */ line) => (kind === "quote" && QUOTE.test(line)) || !interrupts(line);
  while (end < lines.length && !isBlank(lines[end]) && goesOn(lines[end])) end += 1;
  return end;
}

/**
 * Whether a line ends the paragraph before it. A list does so with a text in its first item, and from 1 on.
 *
 * @param {string} line
 */
function interrupts(line) {
  const kind = kindOf(line);
  if (kind !== "list") return kind !== "paragraph";
  const [, , , number, , text] = /** @type {RegExpExecArray} */ (ITEM.exec(line));
  return text.trim() !== "" && (number === undefined || Number(number) === 1);
}

/**
 * @param {readonly string[]} lines
 * @param {number} start
 */
function endOfFence(lines, start) {
  const mark = /** @type {RegExpExecArray} */ (FENCE.exec(lines[start]))[1];
  const closes = (/** @type {string} */ line) => {
    const text = line.trim();
    return text.length >= mark.length && text === mark[0].repeat(text.length);
  };
  const end = lines.findIndex((line, index) => index > start && closes(line));
  return end < 0 ? lines.length : end + 1;
}

/**
 * The line after a list: its items have the same mark, and their further lines are indented or continue a paragraph.
 *
 * @param {readonly string[]} lines
 * @param {number} start
 */
function endOfList(lines, start) {
  const mark = markOf(lines[start]);
  let width = widthOf(lines[start]);
  let end = start + 1;
  let afterBlank = false;
  let isOpen = isParagraph(lines[start].slice(width));
  while (end < lines.length) {
    const line = lines[end];
    if (isBlank(line)) {
      afterBlank = true;
    } else if (indentOf(line) >= width) {
      isOpen = isParagraph(line.slice(width));
      afterBlank = false;
    } else if (kindOf(line) === "list" && markOf(line) === mark) {
      width = widthOf(line);
      isOpen = isParagraph(line.slice(width));
      afterBlank = false;
    } else if (afterBlank || !isOpen || interrupts(line)) {
      break;
    }
    end += 1;
  }
  return end;
}

/**
 * The element of a block.
 *
 * @param {Block} block
 * @param {number} depth The number of blocks around it.
 * @returns {HTMLElement}
 */
function rendered({ kind, lines }, depth) {
  if (depth >= MOST_DEPTH) return newElement("p", { text: lines.join("\n") });
  if (kind === "fence") return fence(lines);
  if (kind === "heading") return heading(lines[0]);
  if (kind === "rule") return newElement("hr");
  if (kind === "quote") return quote(lines, depth);
  return kind === "list" ? list(lines, depth) : paragraph(lines);
}

/** @param {readonly string[]} lines */
function fence(lines) {
  const mark = /** @type {RegExpExecArray} */ (FENCE.exec(lines[0]))[1];
  const indent = indentOf(lines[0]);
  const last = lines[lines.length - 1].trim();
  const isClosed = lines.length > 1 && last.length >= mark.length && last === mark[0].repeat(last.length);
  const code = lines.slice(1, isClosed ? -1 : undefined).map((line) => line.slice(Math.min(indent, indentOf(line))));
  const element = newElement("pre");
  element.append(newElement("code", { text: code.length > 0 ? `${code.join("\n")}\n` : "" }));
  return element;
}

/** @param {string} line */
function heading(line) {
  const [, marks, text] = /** @type {RegExpExecArray} */ (HEADING.exec(line));
  // The page's own headings are h1 and h2; an answer's begin below them.
  const name = /** @type {"h3" | "h4" | "h5" | "h6"} */ (`h${Math.min(marks.length + 2, 6)}`);
  const element = newElement(name);
  element.append(...inline((text ?? "").replace(/(^|[ \t])#+[ \t]*$/, "").trim()));
  return element;
}

/**
 * @param {readonly string[]} lines
 * @param {number} depth
 */
function quote(lines, depth) {
  const element = newElement("blockquote");
  const inner = lines.map((line) => QUOTE.exec(line)?.[1] ?? line);
  element.append(...blocks(inner).map((block) => rendered(block, depth + 1)));
  return element;
}

/**
 * @param {readonly string[]} lines
 * @param {number} depth
 */
function list(lines, depth) {
  const items = itemsOf(lines);
  const [, , , number] = /** @type {RegExpExecArray} */ (ITEM.exec(lines[0]));
  const element = newElement(number === undefined ? "ul" : "ol");
  if (number !== undefined && Number(number) !== 1) element.setAttribute("start", String(Number(number)));
  const isLoose = items.some((item, index) => hasGap(item, index === items.length - 1));
  for (const item of items) {
    const child = newElement("li");
    for (const block of blocks(item)) {
      const isBare = block.kind === "paragraph" && !isLoose;
      child.append(...(isBare ? inline(paragraphText(block.lines)) : [rendered(block, depth + 1)]));
    }
    element.append(child);
  }
  return element;
}

/**
 * The lines of each item of a list, without mark and indentation.
 *
 * @param {readonly string[]} lines
 * @returns {string[][]}
 */
function itemsOf(lines) {
  /** @type {string[][]} */
  const items = [];
  let width = 0;
  for (const line of lines) {
    if (items.length === 0 || (indentOf(line) < width && !isBlank(line) && kindOf(line) === "list")) {
      width = widthOf(line);
      items.push([line.slice(width)]);
    } else {
      items[items.length - 1].push(indentOf(line) >= width ? line.slice(width) : line.trimStart());
    }
  }
  return items;
}

/**
 * Whether an item has an empty line between two of its blocks, or before the next item.
 *
 * @param {readonly string[]} lines
 * @param {boolean} isLast
 */
function hasGap(lines, isLast) {
  const inside = isLast ? trimmedEnd([...lines]) : lines;
  let isCode = false;
  return inside.some((line, index) => {
    if (FENCE.test(line)) isCode = !isCode;
    return index > 0 && !isCode && isBlank(line);
  });
}

/** @param {readonly string[]} lines */
function paragraph(lines) {
  const element = newElement("p");
  element.append(...inline(paragraphText(lines)));
  return element;
}

/** @param {readonly string[]} lines */
function paragraphText(lines) {
  return lines.map((line) => line.trim()).join("\n");
}

/**
 * Whether a text, alone, would be a paragraph that the next line may continue.
 *
 * @param {string} text
 */
function isParagraph(text) {
  return !isBlank(text) && ["paragraph", "quote", "list"].includes(kindOf(text.trimStart()));
}

/**
 * The mark of a list item: a bullet, or the sign after a number.
 *
 * @param {string} line
 */
function markOf(line) {
  return /** @type {RegExpExecArray} */ (ITEM.exec(line))[2].slice(-1);
}

/**
 * The characters before an item's text.
 *
 * @param {string} line
 */
function widthOf(line) {
  const [, indent, mark, , space] = /** @type {RegExpExecArray} */ (ITEM.exec(line));
  return indent.length + mark.length + (space.trim() === "" && space.length >= 1 && space.length <= 4 ? space.length : 1);
}

/** @param {string} line */
function indentOf(line) {
  return line.length - line.trimStart().length;
}

/** @param {string} line */
function isBlank(line) {
  return line.trim() === "";
}

/** @param {string[]} lines */
function trimmedEnd(lines) {
  while (lines.length > 0 && isBlank(lines[lines.length - 1])) lines.pop();
  return lines;
}
