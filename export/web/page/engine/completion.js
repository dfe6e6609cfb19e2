/** The text of one generation, piece by piece, and a summary at its end. */

import { generate } from "./generation.js";
import { StopStrings } from "./stop-strings.js";
import { openTextStream } from "./text-stream.js";
import { ThinkSplitter } from "./think-splitter.js";

/** @typedef {import("./think-splitter.js").Segment} Segment */

/**
 * @typedef {object} CompletionResult
 * @property {string} text The whole text, with the tags of thinking.
 * @property {number[]} tokenIds All tokens, with the stop token.
 * @property {number} tokens The number of these.
 * @property {number} promptTokens
 * @property {"stop" | "length" | "cancelled"} finishReason
 * @property {number} tokensPerSecond The speed after the first token; 0 where there is no other token.
 * @property {number} firstTokenSeconds
 * @property {number} prefillSeconds
 */

/**
 * Complete a prompt.
 *
 * @param {import("./wasm-session.js").Session} session
 * @param {import("./tokenizer.js").Tokenizer} tokenizer
 * @param {import("./prompt.js").Prompt} prompt
 * @param {import("./sampling.js").SamplingParams} params
 * @param {Omit<import("./generation.js").GenerationOptions, "timings"> & {stop: readonly string[]}} options
 * @param {(segment: Segment) => void} onSegment Called with each piece of text.
 * @returns {Promise<CompletionResult>}
 */
export async function complete(session, tokenizer, prompt, params, options, onSegment) {
  const timings = { prefill: 0, decode: 0, steps: 0 };
  const stream = openTextStream(tokenizer);
  const stops = new StopStrings(options.stop);
  const splitter = new ThinkSplitter(prompt.opensThinking);
  /** @type {number[]} */
  const tokenIds = [];
  /** @type {CompletionResult["finishReason"]} */
  let finishReason = "cancelled";
  let text = "";
  let firstTokenSeconds = 0;
  const give = (/** @type {string} */ piece) => {
    const certain = stops.push(piece);
    text += certain;
    splitter.push(certain).forEach(onSegment);
  };
  const started = performance.now();
  for await (const step of generate(session, prompt.tokenIds, params, { ...options, timings })) {
    if (tokenIds.length === 0) firstTokenSeconds = (performance.now() - started) / 1000;
    tokenIds.push(step.tokenId);
    if (step.finishReason !== null) finishReason = step.finishReason;
    if (step.finishReason !== "stop") give(stream.push(step.tokenId));
    if (stops.hit !== null) {
      finishReason = "stop";
      break;
    }
  }
  if (stops.hit === null) {
    give(stream.finish());
    const rest = stops.finish();
    text += rest;
    splitter.push(rest).forEach(onSegment);
  }
  splitter.finish().forEach(onSegment);
  return {
    text,
    tokenIds,
    tokens: tokenIds.length,
    promptTokens: prompt.tokenIds.length,
    finishReason,
    tokensPerSecond: timings.steps > 0 ? timings.steps / timings.decode : 0,
    firstTokenSeconds,
    prefillSeconds: timings.prefill,
  };
}
