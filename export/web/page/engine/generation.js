/** The decode loop: prefill, then sample and run token by token. It knows token ids only, no text. */

import { Pause } from "./pause.js";
import { Sampler } from "./sampling.js";

/** The number of prompt tokens that are run at once: a Stop takes effect between two chunks. */
const CHUNK = 128;

/** @typedef {"stop" | "length"} FinishReason The end at a stop token, or at the limit of tokens or of the context. */

/**
 * Seconds of one generation.
 *
 * @typedef {object} Timings
 * @property {number} prefill
 * @property {number} decode The time after the first token, with the choice of tokens and without the consumer's own time.
 * @property {number} steps The number of tokens after the first one.
 */

/**
 * @typedef {object} GenerationOptions
 * @property {number} maxNewTokens
 * @property {number} maxLength The number of positions of the context.
 * @property {readonly number[]} stopTokenIds The tokens that end the generation; the one that does is given out.
 * @property {number} cachedLength The number of the prompt's tokens, less than all, that are in the session already.
 * @property {AbortSignal} signal A signal that ends the generation between two tokens.
 * @property {Timings} timings The timings, which the generation fills in.
 */

/**
 * Generate after a prompt; whatever ends it, the session then holds a prefix of the prompt and the tokens given out.
 *
 * @param {import("./wasm-session.js").Session} session
 * @param {number[]} prompt
 * @param {import("./sampling.js").SamplingParams} params
 * @param {GenerationOptions} options
 * @returns {AsyncGenerator<{tokenId: number, finishReason: FinishReason | null}>}
 */
export async function* generate(session, prompt, params, options) {
  const sampler = new Sampler(params);
  const history = new Set(prompt);
  const pause = new Pause();
  const started = performance.now();
  await session.truncate(options.cachedLength);
  let logits = null;
  for (let start = options.cachedLength; start < prompt.length; start += CHUNK) {
    if (options.signal.aborted) return;
    logits = await session.run(prompt.slice(start, start + CHUNK));
    await pause.ifDue();
  }
  options.timings.prefill = (performance.now() - started) / 1000;
  let stepStarted = 0;
  for (let count = 1; logits !== null && !options.signal.aborted; count += 1) {
    const tokenId = sampler.choose(logits, history);
    if (count > 1) {
      options.timings.decode += (performance.now() - stepStarted) / 1000;
      options.timings.steps += 1;
    }
    const isLast = count >= options.maxNewTokens || session.length >= options.maxLength;
    const finishReason = options.stopTokenIds.includes(tokenId) ? "stop" : isLast ? "length" : null;
    yield { tokenId, finishReason };
    if (finishReason !== null || options.signal.aborted) return;
    stepStarted = performance.now();
    history.add(tokenId);
    logits = await session.run([tokenId]);
    await pause.ifDue();
  }
}
