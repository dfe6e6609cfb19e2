/** A conversation: it keeps the history, fits it into the context, and runs only the part that the cache lacks. */

import { complete } from "./completion.js";
import { PageError } from "./errors.js";
import { CLOSE_TAG, OPEN_TAG } from "./think-splitter.js";

/** @typedef {import("./chat-template.js").Message} Message */
/** @typedef {import("./completion.js").CompletionResult} CompletionResult */
/** @typedef {import("./prompt.js").Prompt} Prompt */

/** The divisor of the context length that gives the most tokens kept free for an answer. */
const ANSWER_SHARE = 4;

/**
 * @typedef {object} ChatOptions
 * @property {string} system A message before all others, never dropped; empty for none.
 * @property {boolean | null} thinking Whether to ask the model to think first; null leaves it to the template.
 * @property {import("./sampling.js").SamplingParams} params
 * @property {number} maxNewTokens
 * @property {readonly string[]} stop
 */

/** A conversation with one model; earlier turns that the session holds are not run again. */
export class Chat {
  /** @param {import("./model.js").Model} model */
  constructor(model) {
    this.model = model;
    /** @type {Message[]} The history, oldest first, without the system message. */
    this.messages = [];
    /** The index in the history at which the last turn begins, also where that turn did not enter it. */
    this._turnStart = 0;
    /** @type {number[]} The tokens that the session holds. */
    this._held = [];
  }

  /** Forget the conversation. */
  clear() {
    this.restore([]);
  }

  /**
   * Take up a conversation that was held before.
   *
   * @param {Message[]} messages Its history.
   */
  restore(messages) {
    this.messages = messages;
    this._turnStart = Math.max(0, messages.map(({ role }) => role).lastIndexOf("user"));
  }

  /** Record that the model has a new session, whose cache is empty. */
  forgetSession() {
    this._held = [];
  }

  /**
   * Send a message. The turn enters the history when the answer ends, even where it was cut off, unless it is empty.
   *
   * @param {string} text
   * @param {ChatOptions} options
   * @param {AbortSignal} signal
   * @param {{segment: (segment: import("./think-splitter.js").Segment) => void, dropped: (count: number) => void}} listener
   * @param {boolean} again Whether the turn takes the last one's place, once its answer is there.
   * @returns {Promise<{result: CompletionResult, isKept: boolean}>} Also whether the turn entered the history.
   */
  async send(text, options, signal, listener, again) {
    /** @type {Message} */
    const question = { role: "user", content: text };
    const history = again ? this.messages.slice(0, this._turnStart) : this.messages;
    const { dropped, prompt } = this._fit([...history, question], options);
    const { maxLength } = this.model;
    if (prompt.tokenIds.length > maxLength) {
      throw new PageError("context-full", { tokens: prompt.tokenIds.length, limit: maxLength });
    }
    const kept = history.slice(dropped);
    if (dropped > 0) listener.dropped(dropped);
    if (!again) this._take(kept, []);
    const result = await this._complete(prompt, options, signal, listener.segment);
    const isKept = result.text !== "" || result.finishReason !== "cancelled";
    if (isKept) this._take(kept, [question, { role: "assistant", content: said(prompt, result.text) }]);
    return { result, isKept };
  }

  /**
   * @param {Message[]} history
   * @param {Message[]} turn The last turn; empty while it has no answer.
   */
  _take(history, turn) {
    this._turnStart = history.length;
    this.messages = [...history, ...turn];
  }

  /**
   * @param {Prompt} prompt
   * @param {ChatOptions} options
   * @param {AbortSignal} signal
   * @param {(segment: import("./think-splitter.js").Segment) => void} onSegment
   */
  async _complete(prompt, options, signal, onSegment) {
    const { session, tokenizer, maxLength, stopTokenIds } = this.model;
    const cachedLength = commonPrefix(this._held, prompt.tokenIds);
    /** @type {number[]} */
    let written = [];
    try {
      const limits = { maxNewTokens: options.maxNewTokens, maxLength, stopTokenIds, cachedLength };
      const { params, stop } = options;
      const result = await complete(session, tokenizer, prompt, params, { ...limits, stop, signal }, onSegment);
      written = result.tokenIds;
      return result;
    } finally {
      this._held = [...prompt.tokenIds, ...written].slice(0, session.length);
    }
  }

  /**
   * Drop the oldest turns until the rest leaves room for an answer; the last message always stays.
   *
   * @param {Message[]} messages
   * @param {ChatOptions} options
   */
  _fit(messages, options) {
    const { maxLength, prompts } = this.model;
    const room = maxLength - Math.min(options.maxNewTokens, Math.floor(maxLength / ANSWER_SHARE));
    /** @type {Message[]} */
    const system = options.system === "" ? [] : [{ role: "system", content: options.system }];
    const build = (/** @type {number} */ start) => prompts.build([...system, ...messages.slice(start)], options.thinking);
    let dropped = 0;
    let prompt = build(0);
    for (const start of laterTurns(messages)) {
      if (prompt.tokenIds.length <= room) break;
      dropped = start;
      prompt = build(start);
    }
    return { dropped, prompt };
  }
}

/**
 * The places where a shortened history may begin: at any message of the user except the first message.
 *
 * @param {readonly Message[]} messages
 */
function laterTurns(messages) {
  return messages.flatMap((message, index) => (index > 0 && message.role === "user" ? [index] : []));
}

/**
 * The answer as the history has it: a think block that the prompt opened is a part of it, and always closed.
 *
 * @param {Prompt} prompt
 * @param {string} text
 */
function said(prompt, text) {
  if (!prompt.opensThinking) return text;
  return text.includes(CLOSE_TAG) ? `${OPEN_TAG}\n${text}` : `${OPEN_TAG}\n${text}\n${CLOSE_TAG}\n\n`;
}

/**
 * How many tokens of a prompt need not be run again: at most all except the last one, whose logits are needed.
 *
 * @param {readonly number[]} held
 * @param {readonly number[]} wanted
 */
function commonPrefix(held, wanted) {
  const limit = Math.min(held.length, wanted.length - 1);
  let length = 0;
  while (length < limit && held[length] === wanted[length]) length += 1;
  return length;
}
