/** A conversation with a model of the server: it keeps the history, and sends it with each question. */

import { PageError } from "./errors.js";

/** @typedef {import("./messages.js").ModelFacts & {maxLength: number}} Model */
/** @typedef {import("./messages.js").Question} Question */
/** @typedef {import("./messages.js").CompletionResult} CompletionResult */
/** @typedef {import("./messages.js").Message} Message */
/** @typedef {{kind: "think" | "answer", text: string}} Segment */
/** @typedef {{segment: (segment: Segment) => void, dropped: (count: number) => void}} Listener */

/** The divisor of the context length that gives the most tokens kept free for an answer. */
const ANSWER_SHARE = 4;
const FULL = "context_length_exceeded";

/** The turns so far, each with its question and its answer; the server keeps what it has computed of them. */
export class Chat {
  /**
   * @param {import("./server.js").Server} server
   * @param {Model} model
   */
  constructor(server, model) {
    this._server = server;
    this._model = model;
    /** @type {Message[][]} */
    this._turns = [];
    /** Whether the last question entered the history, with its answer. */
    this._isLastKept = false;
    /** The number of tokens that the last question and its answer had, the turns before them included. */
    this._tokens = 0;
  }

  /** The history, oldest first, without the system message. */
  get messages() {
    return this._turns.flat();
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
    this._turns = messages.flatMap((_, index) => (index % 2 === 0 ? [messages.slice(index, index + 2)] : []));
    this._isLastKept = this._turns.length > 0;
    this._tokens = 0;
  }

  /**
   * Send a message. The turn enters the history when the answer ends, even where it was cut off, unless it is empty; an
   * answer that is asked for again replaces the last turn.
   *
   * @param {Question} question
   * @param {AbortSignal} signal
   * @param {Listener} listener
   * @returns {Promise<{result: CompletionResult, isKept: boolean}>} Also whether the turn entered the history.
   */
  async send(question, signal, listener) {
    /** @type {Message} */
    const asked = { role: "user", content: question.text };
    const room = Math.min(question.maxNewTokens, Math.floor(this._model.maxLength / ANSWER_SHARE));
    let turns = this._turns;
    if (!question.again) this._isLastKept = false;
    else if (this._isLastKept) turns = turns.slice(0, -1);
    // A character is seldom more than a token.
    if (this._tokens + asked.content.length + room > this._model.maxLength) turns = this._later(turns, listener);
    for (;;) {
      try {
        const result = await this._complete(question, [...turns.flat(), asked], signal, listener.segment);
        const isKept = result.text !== "";
        if (isKept) {
          this._turns = [...turns, [asked, { role: "assistant", content: result.text }]];
          this._isLastKept = true;
        }
        return { result, isKept };
      } catch (error) {
        const isFull = error instanceof PageError && error.details.kind === FULL;
        if (!isFull || turns.length === 0) throw error;
        turns = this._later(turns, listener);
      }
    }
  }

  /**
   * The later half of the turns, so that the next ones find room too.
   *
   * @param {Message[][]} turns
   * @param {Listener} listener
   */
  _later(turns, listener) {
    const count = Math.ceil(turns.length / 2);
    this._tokens = 0;
    if (count > 0) listener.dropped(turns.slice(0, count).flat().length);
    return turns.slice(count);
  }

  /**
   * @param {Question} question
   * @param {Message[]} messages
   * @param {AbortSignal} signal
   * @param {Listener["segment"]} onSegment
   * @returns {Promise<CompletionResult>}
   */
  async _complete(question, messages, signal, onSegment) {
    const [path, body] = this._request(question, messages);
    const answer = { text: "", tokens: 0, promptTokens: 0 };
    /** @type {CompletionResult["finishReason"]} */
    let finishReason = "cancelled";
    const began = performance.now();
    let first = 0;
    let last = 0;
    const give = (/** @type {Segment["kind"]} */ kind, /** @type {string | null | undefined} */ text) => {
      if (!text) return;
      last = performance.now();
      first ||= last;
      answer.tokens += 1; // until the server has told the number
      if (kind === "answer") answer.text += text;
      onSegment({ kind, text });
    };
    try {
      for await (const { choices, usage } of this._server.stream(path, body, signal)) {
        for (const { delta, text, finish_reason: reason } of choices) {
          give("think", delta?.reasoning_content);
          give("answer", delta?.content ?? text);
          if (reason) finishReason = reason === "length" ? "length" : "stop";
        }
        if (!usage) continue;
        answer.tokens = usage.completion_tokens;
        answer.promptTokens = usage.prompt_tokens;
        this._tokens = usage.total_tokens;
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    }
    const seconds = (last - first) / 1000;
    return {
      ...answer,
      tokenIds: [],
      finishReason,
      tokensPerSecond: seconds > 0 ? Math.max(0, answer.tokens - 1) / seconds : 0,
      firstTokenSeconds: first === 0 ? 0 : (first - began) / 1000,
      prefillSeconds: 0,
    };
  }

  /**
   * The path and the body of a request: a chat, or a text to continue for a model without a chat template.
   *
   * @param {Question} question
   * @param {Message[]} messages
   * @returns {[string, object]}
   */
  _request({ text, system, thinking, params, maxNewTokens }, messages) {
    const { model, chats } = this._model;
    const { temperature, topK, topP, minP, repetitionPenalty, seed, greedy } = params;
    const filters = { temperature, top_k: topK, top_p: topP, min_p: minP, ...(seed === null ? {} : { seed }) };
    const common = {
      model,
      stream: true,
      stream_options: { include_usage: true },
      max_tokens: maxNewTokens,
      repetition_penalty: repetitionPenalty,
      ...(greedy ? { temperature: 0 } : filters),
    };
    if (!chats) return ["v1/completions", { ...common, prompt: text }];
    const first = system === "" ? [] : [{ role: "system", content: system }];
    const thought = thinking === null ? {} : { enable_thinking: thinking };
    return ["v1/chat/completions", { ...common, ...thought, messages: [...first, ...messages] }];
  }
}
