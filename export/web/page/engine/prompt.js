/** Prompts: from messages to the token ids that a model continues. */

import { opensThinking } from "./think-splitter.js";

/**
 * @typedef {object} Prompt
 * @property {number[]} tokenIds The token ids, at least one.
 * @property {boolean} opensThinking Whether the prompt ends inside a think block, so that the model's text begins there.
 */

/** Makes prompts for one model. */
export class PromptBuilder {
  /**
   * @param {import("./tokenizer.js").Tokenizer} tokenizer
   * @param {import("./chat-template.js").ChatTemplate | null} template Null for a model that continues raw text.
   * @param {number | null} bosTokenId The token that a raw text begins with; null for none.
   */
  constructor(tokenizer, template, bosTokenId) {
    this.template = template;
    this._tokenizer = tokenizer;
    this._bosTokenId = bosTokenId;
  }

  /**
   * @param {readonly import("./chat-template.js").Message[]} messages Without a template, the last one is the prompt.
   * @param {boolean | null} thinking
   * @returns {Prompt}
   */
  build(messages, thinking) {
    if (this.template === null) {
      const text = messages[messages.length - 1].content;
      const start = this._bosTokenId === null ? [] : [this._bosTokenId];
      return { tokenIds: [...start, ...this._tokenizer.encode(text)], opensThinking: opensThinking(text) };
    }
    const text = this.template.render(messages, thinking);
    return { tokenIds: this._tokenizer.encode(text), opensThinking: opensThinking(text) };
  }
}
