/** A model's chat template: from messages to the text of a prompt, as transformers renders it. */

import { Template } from "../vendor/jinja.mjs";

import { PageError } from "./errors.js";

/** @typedef {{role: "system" | "user" | "assistant", content: string}} Message */

/** Renders messages to a prompt. */
export class ChatTemplate {
  /**
   * @param {string} source The template's jinja2 text.
   * @param {Record<string, string>} specialTokens The template's variables, such as `bos_token`.
   */
  constructor(source, specialTokens) {
    this._specialTokens = specialTokens;
    /** Whether the template can be told to think first, or not to. */
    this.knowsThinking = /\b(enable|open)_thinking\b/.test(source);
    this._template = explained(() => new Template(source));
  }

  /**
   * The prompt's text, which ends with the beginning of the assistant's turn.
   *
   * @param {readonly Message[]} messages The conversation, oldest first.
   * @param {boolean | null} thinking Whether to ask the model to think first; null leaves it to the template.
   * @returns {string}
   */
  render(messages, thinking) {
    // MiniMind2's template, like Qwen3's, reads the first name, MiniMind-3's the second.
    const choice = thinking === null ? {} : { enable_thinking: thinking, open_thinking: thinking };
    const variables = { ...this._specialTokens, ...choice, messages, tools: null, documents: null };
    return explained(() => this._template.render({ ...variables, add_generation_prompt: true }));
  }
}

/**
 * The template of an artifact, null where it has none.
 *
 * @param {Record<string, any>} config The content of `tokenizer_config.json`: one text, or a list of named ones.
 * @param {Record<string, string>} specialTokens
 */
export function findChatTemplate(config, specialTokens) {
  const given = config.chat_template;
  const source = Array.isArray(given) ? given.find((entry) => entry.name === "default")?.template : given;
  return typeof source === "string" ? new ChatTemplate(source.replace(/\r\n?/g, "\n"), specialTokens) : null;
}

/**
 * @template T
 * @param {() => T} work
 */
function explained(work) {
  try {
    return work();
  } catch (error) {
    throw new PageError("template", { reason: error instanceof Error ? error.message : String(error) });
  }
}
