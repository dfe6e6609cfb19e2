/** The tokenizer: text to token ids and back, by an artifact's `tokenizer.json` and `tokenizer_config.json`. */

import { Tokenizer as Backend } from "../vendor/tokenizers.mjs";

/** @typedef {{content: string, special?: boolean, normalized?: boolean, lstrip?: boolean, rstrip?: boolean, single_word?: boolean}} AddedToken */

/** Encodes and decodes as `minimind-run` does with the same two files. */
export class Tokenizer {
  /**
   * @param {Record<string, any>} description The content of `tokenizer.json`.
   * @param {Record<string, any>} config The content of `tokenizer_config.json`.
   */
  constructor(description, config) {
    /** The text of each special token by its role, such as `bos_token`. */
    this.specialTokens = specialTokens(config);
    const complete = withMissingTokens(description, config, this.specialTokens);
    this._backend = new Backend(complete, { ...config, clean_up_tokenization_spaces: false });
    this._specialIds = new Set(
      complete.added_tokens.filter((/** @type {any} */ token) => token.special).map((/** @type {any} */ token) => token.id),
    );
    this.isByteLevel = description.decoder?.type === "ByteLevel";
    this.bosTokenId = this._idOf("bos_token");
    this.eosTokenId = this._idOf("eos_token");
    /** Whether a raw prompt begins with `bos_token`, as the export says. */
    this.beginsWithBos = config.begins_with_bos === true;
  }

  /**
   * Token ids of a text; special tokens that are spelled out in it become their ids, and none is added around it.
   *
   * @param {string} text
   * @returns {number[]}
   */
  encode(text) {
    return this._backend.encode(text, { add_special_tokens: false }).ids;
  }

  /**
   * Text of token ids, special ones left out.
   *
   * @param {number[]} tokenIds
   * @returns {string}
   */
  decode(tokenIds) {
    return tokenIds.length === 0 ? "" : this._backend.decode(tokenIds, { skip_special_tokens: true });
  }

  /**
   * Whether the token is a mark, not a part of the text; also true for an id without a token.
   *
   * @param {number} tokenId
   */
  isSpecial(tokenId) {
    return this._specialIds.has(tokenId) || this._backend.id_to_token(tokenId) === undefined;
  }

  /**
   * UTF-8 bytes that the token adds to a text, for a byte-level tokenizer; none for a special token.
   *
   * @param {number} tokenId
   */
  tokenBytes(tokenId) {
    return this.isSpecial(tokenId) ? new Uint8Array() : toBytes(this._backend.id_to_token(tokenId) ?? "");
  }

  /** @param {string} role */
  _idOf(role) {
    const text = this.specialTokens[role];
    return text === undefined ? null : (this._backend.token_to_id(text) ?? null);
  }
}

/**
 * The texts of `bos_token`, `eos_token` and their like; each is a string or an object with `content`.
 *
 * @param {Record<string, any>} config
 * @returns {Record<string, string>}
 */
function specialTokens(config) {
  const roles = Object.keys(config).filter((name) => name.endsWith("_token") && !name.startsWith("add_"));
  const texts = roles.map((role) => [role, config[role]?.content ?? config[role]]);
  return Object.fromEntries(texts.filter(([, text]) => typeof text === "string" && text !== ""));
}

/**
 * The description with the tokens that only the config has, special where the config says so.
 *
 * @param {Record<string, any>} description
 * @param {Record<string, any>} config
 * @param {Record<string, string>} special
 */
function withMissingTokens(description, config, special) {
  const added = [...(description.added_tokens ?? [])];
  const known = new Set(added.map((token) => token.content));
  const vocabulary = description.model?.vocab ?? {};
  let next = 1 + [...Object.values(vocabulary), ...added.map((token) => token.id)].reduce((most, id) => Math.max(most, id), -1);
  for (const token of [...listedTokens(config), ...Object.values(special).map((content) => ({ content, special: true }))]) {
    if (known.has(token.content)) continue;
    known.add(token.content);
    const id = vocabulary[token.content] ?? next++;
    added.push({ lstrip: false, rstrip: false, single_word: false, normalized: !token.special, ...token, id });
  }
  return { ...description, added_tokens: added };
}

/**
 * The tokens of `added_tokens_decoder`, by id.
 *
 * @param {Record<string, any>} config
 * @returns {AddedToken[]}
 */
function listedTokens(config) {
  const listed = Object.entries(config.added_tokens_decoder ?? {});
  return listed.sort(([one], [other]) => Number(one) - Number(other)).map(([, token]) => token);
}

/**
 * The byte that each printable character of a byte-level vocabulary stands for.
 *
 * Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.2, and its tokenizer:
 * the printable characters of Latin-1 stand for themselves, the other bytes, in order, for U+0100 and up.
 */
const BYTE_OF = byteAlphabet();

function byteAlphabet() {
  const isPrintable = (/** @type {number} */ byte) =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  /** @type {Map<string, number>} */
  const alphabet = new Map();
  let stand = 0x100;
  for (let byte = 0; byte < 256; byte += 1) {
    alphabet.set(String.fromCharCode(isPrintable(byte) ? byte : stand++), byte);
  }
  return alphabet;
}

/**
 * Bytes of a vocabulary entry; an added token with other characters than the alphabet's stands for itself.
 *
 * @param {string} token
 */
function toBytes(token) {
  const bytes = Array.from(token, (character) => BYTE_OF.get(character));
  if (bytes.includes(undefined)) return new TextEncoder().encode(token);
  return Uint8Array.from(/** @type {number[]} */ (bytes));
}
