/** The worker that runs the model, so that the page stays responsive: requests come in, reports go out. */

import { Chat } from "./chat.js";
import { PageError } from "./errors.js";
import { Model } from "./model.js";
import { Requests, listener, report } from "./requests.js";
import { checkedParams } from "./sampling.js";

new Requests(load, ask).listen();

/** @param {import("./model.js").LoadOptions} options */
async function load(options) {
  const onProgress = (/** @type {number} */ loaded, /** @type {number} */ total) => {
    report({ type: "progress", loaded, total });
  };
  const model = await Model.load(options, onProgress, (reason) => report({ type: "fallback", reason }));
  report({ type: "ready", facts: facts(model) });
  return new Chat(model);
}

/**
 * @param {Chat} chat
 * @param {import("./messages.js").Question} question
 * @param {AbortSignal} signal
 */
async function ask(chat, question, signal) {
  try {
    return await answer(chat, question, signal);
  } catch (error) {
    if (!(error instanceof PageError && error.code === "no-webgpu")) throw error;
    report({ type: "fallback", reason: String(error.details.reason) });
    await chat.model.leaveWebGpu();
    chat.forgetSession();
    report({ type: "ready", facts: facts(chat.model) });
    report({ type: "restart" });
    return answer(chat, question, signal);
  }
}

/**
 * @param {Chat} chat
 * @param {import("./messages.js").Question} question
 * @param {AbortSignal} signal
 */
function answer(chat, { text, system, thinking, params, maxNewTokens, again }, signal) {
  const options = { system, thinking, params: checkedParams(params), maxNewTokens, stop: [] };
  return chat.send(text, options, signal, listener, again);
}

/**
 * @param {Model} loaded
 * @returns {import("./messages.js").ModelFacts}
 */
function facts({ manifest, defaults, prompts, session }) {
  return {
    manifest,
    params: defaults.params,
    maxNewTokens: defaults.maxNewTokens,
    chats: prompts.template !== null,
    knowsThinking: prompts.template?.knowsThinking ?? false,
    device: session.device,
    threads: session.threads,
  };
}
