/** The worker that runs the model, so that the page stays responsive: requests come in, reports go out. */

import { Chat } from "./chat.js";
import { PageError, describeError } from "./errors.js";
import { Model } from "./model.js";
import { checkedParams } from "./sampling.js";

/** @typedef {import("./messages.js").Request} Request */
/** @typedef {import("./messages.js").Report} Report */

/** @type {Chat | null} */
let chat = null;
/** @type {Model | null} */
let model = null;
/** A promise that settles when the model is ready or cannot be loaded. */
let loading = Promise.resolve();
let abort = new AbortController();

addEventListener("message", async ({ data }) => {
  try {
    await answer(/** @type {Request} */ (data));
  } catch (error) {
    report({ type: "error", ...describeError(error) });
  }
});

/** @param {Request} request */
async function answer(request) {
  if (request.type === "load") await (loading = load(request.options));
  else if (request.type === "ask") await ask(request.question);
  else if (request.type === "stop") abort.abort();
  else if (request.type === "restore") await restore(request.messages);
  else chat?.clear();
}

/** @param {import("./chat-template.js").Message[]} messages */
async function restore(messages) {
  await loading.catch(() => {}); // the request to load has reported it
  chat?.restore(messages);
}

/** @param {import("./model.js").LoadOptions} options */
async function load(options) {
  const onProgress = (/** @type {number} */ loaded, /** @type {number} */ total) => {
    report({ type: "progress", loaded, total });
  };
  model = await Model.load(options, onProgress, (reason) => report({ type: "fallback", reason }));
  chat = new Chat(model);
  report({ type: "ready", facts: facts(model) });
}

/** @param {import("./messages.js").Question} question */
async function ask(question) {
  await loading.catch(() => {}); // the request to load has reported it
  if (model === null || chat === null) throw new PageError("bug", { reason: "there is no model yet" });
  abort = new AbortController();
  try {
    await answerTo(chat, question);
  } catch (error) {
    if (!(error instanceof PageError && error.code === "no-webgpu")) throw error;
    report({ type: "fallback", reason: String(error.details.reason) });
    await model.leaveWebGpu();
    chat.forgetSession();
    report({ type: "ready", facts: facts(model) });
    report({ type: "restart" });
    await answerTo(chat, question);
  }
}

/**
 * @param {Chat} conversation
 * @param {import("./messages.js").Question} question
 */
async function answerTo(conversation, { text, system, thinking, params, maxNewTokens, again }) {
  const options = { system, thinking, params: checkedParams(params), maxNewTokens, stop: [] };
  const listener = {
    segment: (/** @type {import("./think-splitter.js").Segment} */ segment) => report({ type: "segment", segment }),
    dropped: (/** @type {number} */ count) => report({ type: "dropped", count }),
  };
  const { result, isKept } = await conversation.send(text, options, abort.signal, listener, again);
  report({ type: "end", result, messages: isKept ? conversation.messages : null });
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

/** @param {Report} content */
function report(content) {
  postMessage(content);
}
