/** Stop strings: end a stream of text where one of them appears, also where it lies across several pieces. */

/** Passes text on until a stop string is complete; text is held back only while it could still become one. */
export class StopStrings {
  /** @param {readonly string[]} strings Any number of them, none empty. */
  constructor(strings) {
    this._strings = strings;
    this._withheld = "";
    /** @type {string | null} The stop string that ended the text. */
    this.hit = null;
  }

  /**
   * The text that cannot be part of a stop string; look at `hit` afterwards.
   *
   * @param {string} piece
   */
  push(piece) {
    if (this._strings.length === 0 || this.hit !== null) return this.hit === null ? piece : "";
    const text = this._withheld + piece;
    this._withheld = "";
    const first = firstComplete(text, this._strings);
    if (first !== null) {
      this.hit = first.string;
      return text.slice(0, first.start);
    }
    const certain = text.length - unfinishedLength(text, this._strings);
    this._withheld = text.slice(certain);
    return text.slice(0, certain);
  }

  /** The text that was held back and never became a stop string. */
  finish() {
    const rest = this._withheld;
    this._withheld = "";
    return rest;
  }
}

/**
 * The length of the longest end of `text` that is the beginning of one of the strings, and not all of it.
 *
 * @param {string} text
 * @param {readonly string[]} strings
 */
export function unfinishedLength(text, strings) {
  const longest = Math.min(text.length, Math.max(...strings.map((string) => string.length)) - 1);
  for (let length = longest; length > 0; length -= 1) {
    const end = text.slice(text.length - length);
    if (strings.some((string) => string.startsWith(end))) return length;
  }
  return 0;
}

/**
 * The string that is complete first; of two complete at once, the longer.
 *
 * @param {string} text
 * @param {readonly string[]} strings
 */
function firstComplete(text, strings) {
  const found = strings
    .map((string) => ({ string, start: text.indexOf(string) }))
    .filter(({ start }) => start >= 0)
    .map(({ string, start }) => ({ string, start, end: start + string.length }));
  found.sort((one, other) => one.end - other.end || one.start - other.start);
  return found.length > 0 ? found[0] : null;
}
