/** The decode loop: prefill, then sample and run token by token. It knows token ids only, nothing of text. */

import { Pause } from "./pause.js";
import { Sampler } from "./sampling.js";

/** Tokens of a prompt that are run at once: a Stop is heard between two chunks. */
const CHUNK = 128;

/** @typedef {"stop" | "length"} FinishReason At a stop token, or at the limit of tokens or of the context. */

/**
 * Seconds of one generation.
 *
 * @typedef {object} Timings
 * @property {number} prefill
 * @property {number} decode Everything behind the first token, the choice of tokens with it; the consumer's own time is left out.
 * @property {number} steps Tokens behind the first one.
 */

/**
 * @typedef {object} GenerationOptions
 * @property {number} maxNewTokens
 * @property {number} maxLength Positions of the context.
 * @property {readonly number[]} stopTokenIds The generation ends with the first of these, which it gives out.
 * @property {number} cachedLength So many of the prompt's tokens, less than all, are in the session already.
 * @property {AbortSignal} signal Ends it between two tokens.
 * @property {Timings} timings Filled in on the way.
 */

/**
 * Generate behind a prompt; whatever ends it, the session then holds a prefix of the prompt and the tokens given out.
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
