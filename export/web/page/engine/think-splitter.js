/** Separating thinking from the answer: splits streamed text at `<think>` and `</think>`. */

import { unfinishedLength } from "./stop-strings.js";

export const OPEN_TAG = "<think>";
export const CLOSE_TAG = "</think>";

/** @typedef {{kind: "think" | "answer", text: string}} Segment A piece of text of one kind, never empty. */

/** Splits a stream into segments; tags, and line breaks directly after them, are left out. */
export class ThinkSplitter {
  /** @param {boolean} [thinking] Whether the text begins inside a think block. */
  constructor(thinking = false) {
    this._thinking = thinking;
    this._withheld = "";
    this._behindTag = thinking;
  }

  /**
   * The segments that are certain; text that may be the beginning of a tag is held back.
   *
   * @param {string} piece
   * @returns {Segment[]}
   */
  push(piece) {
    let text = this._withheld + piece;
    /** @type {Segment[]} */
    const segments = [];
    for (let start = text.indexOf(this._tag()); start >= 0; start = text.indexOf(this._tag())) {
      this._append(segments, text.slice(0, start));
      text = text.slice(start + this._tag().length);
      this._thinking = !this._thinking;
      this._behindTag = true;
    }
    const certain = text.length - unfinishedLength(text, [this._tag()]);
    this._withheld = text.slice(certain);
    this._append(segments, text.slice(0, certain));
    return segments;
  }

  /** The text that was held back and never became a tag. */
  finish() {
    /** @type {Segment[]} */
    const segments = [];
    this._append(segments, this._withheld);
    this._withheld = "";
    return segments;
  }

  _tag() {
    return this._thinking ? CLOSE_TAG : OPEN_TAG;
  }

  /**
   * @param {Segment[]} segments
   * @param {string} given
   */
  _append(segments, given) {
    const text = this._behindTag ? given.replace(/^\n+/, "") : given;
    if (text === "") return;
    this._behindTag = false;
    segments.push({ kind: this._thinking ? "think" : "answer", text });
  }
}

/**
 * Whether a rendered prompt ends with an opened think block, so that the model's text begins inside of it.
 *
 * @param {string} prompt
 */
export function opensThinking(prompt) {
  return prompt.trimEnd().endsWith(OPEN_TAG);
}
