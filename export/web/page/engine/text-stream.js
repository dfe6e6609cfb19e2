/** Incremental detokenizer: token ids go in one by one, text comes out, never half a character. */

/** @typedef {import("./tokenizer.js").Tokenizer} Tokenizer */

const REPLACEMENT = "\uFFFD";

/** The most tokens held back for an unfinished character, which has at most 4 bytes in UTF-8. */
const MAX_WITHHELD = 4;

/**
 * A new stream, of the kind that the tokenizer's decoder allows.
 *
 * @param {Tokenizer} tokenizer
 */
export function openTextStream(tokenizer) {
  return tokenizer.isByteLevel ? new ByteTextStream(tokenizer) : new WindowTextStream(tokenizer);
}

/** For byte-level tokenizers: each token is a run of bytes, and the text is those bytes read as UTF-8. */
class ByteTextStream {
  /** @param {Tokenizer} tokenizer */
  constructor(tokenizer) {
    this._tokenizer = tokenizer;
    this._decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  }

  /**
   * The text that is certain after this token, possibly empty; special tokens have no text.
   *
   * @param {number} tokenId
   */
  push(tokenId) {
    return this._decoder.decode(this._tokenizer.tokenBytes(tokenId), { stream: true });
  }

  /** The rest of the text: the bytes of an unfinished character, if there are any. */
  finish() {
    return this._decoder.decode();
  }
}

/** For any tokenizer: decodes the newest tokens after a few known ones, which determine the space between them. */
class WindowTextStream {
  /** @param {Tokenizer} tokenizer */
  constructor(tokenizer) {
    this._tokenizer = tokenizer;
    /** @type {number[]} */
    this._context = [];
    /** @type {number[]} */
    this._withheld = [];
  }

  /** @param {number} tokenId */
  push(tokenId) {
    if (this._tokenizer.isSpecial(tokenId)) return "";
    this._withheld.push(tokenId);
    const text = this._newText();
    if (text.endsWith(REPLACEMENT) && this._withheld.length < MAX_WITHHELD) return "";
    this._context = this._withheld;
    this._withheld = [];
    return text;
  }

  finish() {
    const text = this._newText();
    this._withheld = [];
    return text;
  }

  _newText() {
    const known = this._tokenizer.decode(this._context);
    return this._tokenizer.decode([...this._context, ...this._withheld]).slice(known.length);
  }
}
