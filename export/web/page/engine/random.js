/** A random generator with a seed: the same seed gives the same answer in every browser. */

const WORDS = 4;

/**
 * Uniform numbers in [0, 1).
 *
 * Source: Blackman & Vigna 2021, "Scrambled Linear Pseudorandom Number Generators" (xoshiro128**), its state filled by
 * SplitMix32 as its authors advise.
 */
export class Random {
  /** @param {number | null} seed A whole number from 0 up; null draws a fresh one. */
  constructor(seed) {
    this._state = seed === null ? crypto.getRandomValues(new Uint32Array(WORDS)) : fromSeed(seed);
  }

  /** The next number, with 53 random bits. */
  next() {
    const high = this._word() >>> 5;
    const low = this._word() >>> 6;
    return (high * 2 ** 26 + low) / 2 ** 53;
  }

  _word() {
    const state = this._state;
    const result = Math.imul(rotate(Math.imul(state[1], 5), 7), 9) >>> 0;
    const shifted = state[1] << 9;
    state[2] ^= state[0];
    state[3] ^= state[1];
    state[1] ^= state[2];
    state[0] ^= state[3];
    state[2] ^= shifted;
    state[3] = rotate(state[3], 11);
    return result;
  }
}

/** @param {number} seed */
function fromSeed(seed) {
  const state = new Uint32Array(WORDS);
  let sum = (seed ^ Math.floor(seed / 2 ** 32)) | 0;
  for (let index = 0; index < WORDS; index += 1) {
    sum = (sum + 0x9e3779b9) | 0;
    let word = sum;
    word = Math.imul(word ^ (word >>> 16), 0x21f0aaad);
    word = Math.imul(word ^ (word >>> 15), 0x735a2d97);
    state[index] = word ^ (word >>> 15);
  }
  return state;
}

/**
 * @param {number} word
 * @param {number} bits
 */
function rotate(word, bits) {
  return (word << bits) | (word >>> (32 - bits));
}
