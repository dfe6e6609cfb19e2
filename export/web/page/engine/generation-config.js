/** The artifact's `generation_config.json`: the stop tokens, and the author's sampling settings. */

import { checkedParams } from "./sampling.js";

const DEFAULT_MAX_NEW_TOKENS = 512;

/**
 * @typedef {object} Defaults
 * @property {import("./sampling.js").SamplingParams} params
 * @property {number} maxNewTokens
 * @property {number[]} stopTokenIds
 * @property {number | null} bosTokenId
 */

/**
 * The model's defaults.
 *
 * @param {Record<string, any>} values The content of `generation_config.json`.
 * @param {Record<string, any>} config The content of `config.json`, which has the special tokens that `values` lacks.
 * @param {import("./tokenizer.js").Tokenizer} tokenizer The tokenizer, which has the special tokens that both lack.
 * @returns {Defaults}
 */
export function readDefaults(values, config, tokenizer) {
  const given = {
    temperature: values.temperature,
    topK: values.top_k,
    topP: values.top_p,
    minP: values.min_p,
    repetitionPenalty: values.repetition_penalty,
    greedy: values.do_sample === false,
  };
  const known = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined && value !== null));
  const eos = [values.eos_token_id ?? config.eos_token_id ?? tokenizer.eosTokenId ?? []].flat();
  return {
    params: checkedParams(known),
    maxNewTokens: values.max_new_tokens ?? DEFAULT_MAX_NEW_TOKENS,
    stopTokenIds: eos,
    bosTokenId: tokenizer.beginsWithBos ? tokenizer.bosTokenId : null,
  };
}
