/** The worker that asks the server: requests of the page come in, reports go out. */

import { Chat } from "./chat.js";
import { PageError, describeError } from "./errors.js";
import { Server } from "./server.js";

/** @typedef {import("./messages.js").Request} Request */
/** @typedef {import("./messages.js").Report} Report */

/** The description of the server's models, for this page. */
const MODELS = "page.json";

/** @type {Chat | null} */
let chat = null;
/** A promise that settles when the models are known or cannot be asked for. */
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

/** @param {import("./messages.js").Message[]} messages */
async function restore(messages) {
  await loading.catch(() => {}); // the request to load has reported it
  chat?.restore(messages);
}

/** @param {import("./messages.js").LoadOptions} options */
async function load({ model, key }) {
  const server = new Server(key);
  const { models } = await server.read(MODELS);
  const names = models.map((/** @type {{model: string}} */ each) => each.model);
  const facts = { ...(models[names.indexOf(model)] ?? models[0]), models: names };
  chat = new Chat(server, facts);
  report({ type: "ready", facts });
}

/** @param {import("./messages.js").Question} question */
async function ask(question) {
  if (chat === null) throw new PageError("bug", { reason: "there is no model yet" });
  abort = new AbortController();
  const { result, isKept } = await chat.send(question, abort.signal, {
    segment: (segment) => report({ type: "segment", segment }),
    dropped: (count) => report({ type: "dropped", count }),
  });
  report({ type: "end", result, messages: isKept ? chat.messages : null });
}

/** @param {Report} content */
function report(content) {
  postMessage(content);
}
