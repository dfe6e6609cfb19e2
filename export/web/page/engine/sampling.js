/** Sampling: from next-token logits to a token id, with the filters of `minimind-run` in the same order. */

import { PageError } from "./errors.js";
import { Random } from "./random.js";

/**
 * How the next token is chosen.
 *
 * @typedef {object} SamplingParams
 * @property {number} temperature Divides the logits; at least 0, where 0 means greedy.
 * @property {number} topK Keep the k likeliest tokens; 0 means all.
 * @property {number} topP Keep the likeliest tokens that together reach this probability; 0 to 1.
 * @property {number} minP Keep tokens at least this fraction as likely as the likeliest; 0 to 1.
 * @property {number} repetitionPenalty Over 1, tokens seen so far become less likely; 0.01 to 100.
 * @property {number | null} seed The seed of the random generator; null draws a fresh one.
 * @property {boolean} greedy Always take the likeliest token; only the repetition penalty is applied before.
 */

/** @type {SamplingParams} The model's own distribution. */
export const DEFAULT_PARAMS = Object.freeze({
  temperature: 1,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  seed: null,
  greedy: false,
});

/** @type {Record<string, [number, number, boolean]>} Least, most, and whether it must be whole. */
const RANGES = {
  temperature: [0, Number.MAX_VALUE, false],
  topK: [0, Number.MAX_SAFE_INTEGER, true],
  topP: [0, 1, false],
  minP: [0, 1, false],
  repetitionPenalty: [0.01, 100, false],
  seed: [0, Number.MAX_SAFE_INTEGER, true],
};

const LEAST_TEMPERATURE = 2 ** -126;
const FLOAT32_MAX = (2 - 2 ** -23) * 2 ** 127;

/**
 * The parameters with every value in its range, or a PageError "bad-option" that names the one which is not.
 *
 * @param {Partial<SamplingParams>} given
 * @returns {SamplingParams}
 */
export function checkedParams(given) {
  const params = { ...DEFAULT_PARAMS, ...given };
  for (const [name, [least, most, whole]] of Object.entries(RANGES)) {
    const value = params[/** @type {keyof SamplingParams} */ (name)];
    if (name === "seed" && value === null) continue;
    const fits = typeof value === "number" && value >= least && value <= most && (!whole || Number.isInteger(value));
    if (!fits) throw new PageError("bad-option", { name, value: String(value) });
  }
  return params;
}

/** Chooses tokens; owns the random generator, so one sampler belongs to one generation. */
export class Sampler {
  /** @param {SamplingParams} params */
  constructor(params) {
    this._params = params;
    this._random = params.greedy || params.temperature === 0 ? null : new Random(params.seed);
  }

  /**
   * @param {Float32Array} logits `[V]`; not changed.
   * @param {Set<number>} history The tokens of the prompt and of the answer so far.
   * @returns {number} A token id.
   */
  choose(logits, history) {
    if (this._random === null) return likeliest(penalized(logits, history, this._params.repetitionPenalty));
    const { ids, probabilities } = distribution(logits, history, this._params);
    const total = probabilities.reduce((sum, probability) => sum + probability, 0);
    const threshold = this._random.next() * total;
    let cumulative = 0;
    for (let index = 0; index < ids.length; index += 1) {
      cumulative += probabilities[index];
      if (cumulative > threshold) return ids[index];
    }
    return ids[ids.length - 1];
  }
}

/**
 * The distribution that a token is drawn from: repetition penalty, temperature, top-k, top-p, min-p, in this order.
 *
 * @param {Float32Array} logits `[V]`.
 * @param {Iterable<number>} history
 * @param {SamplingParams} params
 * @returns {{ids: number[], probabilities: Float32Array}} The tokens that survive, ascending, and their probabilities.
 */
export function distribution(logits, history, params) {
  const scores = divided(penalized(logits, history, params.repetitionPenalty), params.temperature);
  const border = params.topK > 0 && params.topK < scores.length ? kthLargest(scores, params.topK) : -Infinity;
  let ids = atLeast(border, scores);
  if (params.topP < 1) ids = keptByTopP(ids, scores, params.topP);
  let probabilities = softmax(ids, scores);
  if (params.minP > 0) {
    const largest = probabilities.reduce((most, probability) => Math.max(most, probability), 0);
    const least = Math.fround(Math.fround(params.minP) * largest);
    ids = ids.filter((_, index) => probabilities[index] >= least);
    probabilities = softmax(ids, scores);
  }
  return { ids, probabilities };
}

/**
 * The `count`-th largest score, found in one pass that keeps the largest scores so far in order. Sorting all scores took three
 * quarters of the time of a choice.
 *
 * @param {Float32Array} scores
 * @param {number} count
 */
function kthLargest(scores, count) {
  const largest = new Float32Array(count).fill(-Infinity); // ascending
  for (const score of scores) {
    if (score <= largest[0]) continue;
    let place = 0;
    for (; place + 1 < count && largest[place + 1] < score; place += 1) largest[place] = largest[place + 1];
    largest[place] = score;
  }
  return largest[0];
}

/**
 * The tokens with a score of at least `border`.
 *
 * @param {number} border
 * @param {Float32Array} scores
 */
function atLeast(border, scores) {
  const ids = [];
  for (let id = 0; id < scores.length; id += 1) if (scores[id] >= border) ids.push(id);
  return ids;
}

/**
 * The tokens without the least likely ones, whose probabilities sum to at most `1 - topP`; of equal ones the later stay.
 *
 * @param {number[]} ids Ascending.
 * @param {Float32Array} scores
 * @param {number} topP
 */
function keptByTopP(ids, scores, topP) {
  const probabilities = softmax(ids, scores);
  // Array.prototype.sort is stable: of equal scores the earlier ones come first, and are removed first.
  const order = Array.from(ids.keys()).sort((one, other) => scores[ids[one]] - scores[ids[other]]);
  const removable = Math.fround(1 - topP);
  let cumulative = 0;
  let removed = 0;
  for (; removed < order.length - 1; removed += 1) {
    cumulative += probabilities[order[removed]];
    if (Math.fround(cumulative) > removable) break;
  }
  return order
    .slice(removed)
    .sort((one, other) => one - other)
    .map((index) => ids[index]);
}

/**
 * @param {number[]} ids
 * @param {Float32Array} scores
 */
function softmax(ids, scores) {
  const largest = ids.reduce((most, id) => Math.max(most, scores[id]), -Infinity);
  const exponentials = Float32Array.from(ids, (id) => Math.exp(Math.fround(scores[id] - largest)));
  const total = exponentials.reduce((sum, value) => sum + value, 0);
  return exponentials.map((value) => value / total);
}

/**
 * @param {Float32Array} logits
 * @param {Iterable<number>} history
 * @param {number} penalty
 */
function penalized(logits, history, penalty) {
  if (penalty === 1) return logits;
  const factor = Math.fround(penalty);
  const result = logits.slice();
  for (const id of history) result[id] = logits[id] < 0 ? logits[id] * factor : logits[id] / factor;
  return result;
}

/**
 * Apply the temperature; where the quotient leaves float32's range, to the distance from the largest logit.
 *
 * @param {Float32Array} logits
 * @param {number} temperature
 */
function divided(logits, temperature) {
  const largest = logits[likeliest(logits)];
  if (temperature === 1) return logits;
  const divisor = Math.fround(Math.min(Math.max(temperature, LEAST_TEMPERATURE), FLOAT32_MAX));
  const shift = Math.abs(largest) / divisor > FLOAT32_MAX ? largest : 0;
  return logits.map((logit) => Math.fround(logit - shift) / divisor);
}

/**
 * The first of the largest logits; a PageError "broken-logits" where one is NaN or none is finite.
 *
 * @param {Float32Array} logits
 */
function likeliest(logits) {
  let best = 0;
  let valid = true;
  for (let id = 0; id < logits.length; id += 1) {
    if (logits[id] > logits[best]) best = id;
    if (Number.isNaN(logits[id])) valid = false;
  }
  if (!valid || !Number.isFinite(logits[best])) throw new PageError("broken-logits");
  return best;
}
