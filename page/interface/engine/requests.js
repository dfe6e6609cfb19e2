/** The worker's side of the page's requests: each is answered by reports, and an error is one of them. */

import { PageError, describeError } from "./errors.js";

/** @typedef {import("./chat.js").Chat} Chat */
/** @typedef {import("./messages.js").LoadOptions} LoadOptions */
/** @typedef {import("./messages.js").Question} Question */
/** @typedef {import("./messages.js").Report} Report */
/** @typedef {import("./messages.js").Request} Request */

/** What is reported of an answer while it is written. */
export const listener = Object.freeze({
  segment: (/** @type {import("./think-splitter.js").Segment} */ segment) => report({ type: "segment", segment }),
  dropped: (/** @type {number} */ count) => report({ type: "dropped", count }),
});

/** Answers the page's requests, with the model where it runs. */
export class Requests {
  /**
   * @param {(options: LoadOptions) => Promise<Chat>} load Loads the model and reports that it is ready.
   * @param {(chat: Chat, question: Question, signal: AbortSignal) => ReturnType<Chat["send"]>} ask
   */
  constructor(load, ask) {
    this._load = load;
    this._ask = ask;
    /** @type {Chat | null} */
    this._chat = null;
    /** A promise that settles when the model is ready or cannot be loaded. */
    this._loading = Promise.resolve();
    this._abort = new AbortController();
  }

  /** Answer every request that comes from now on. */
  listen() {
    addEventListener("message", async ({ data }) => {
      try {
        await this._answer(data);
      } catch (error) {
        report({ type: "error", ...describeError(error) });
      }
    });
  }

  /** @param {Request} request */
  async _answer(request) {
    if (request.type === "load") await (this._loading = this._begin(request.options));
    else if (request.type === "stop") this._abort.abort();
    else {
      await this._loading.catch(() => {}); // the request to load has reported it
      if (request.type === "ask") await this._reply(request.question);
      else if (request.type === "restore") this._chat?.restore(request.messages);
      else this._chat?.clear();
    }
  }

  /** @param {LoadOptions} options */
  async _begin(options) {
    this._chat = await this._load(options);
  }

  /** @param {Question} question */
  async _reply(question) {
    if (this._chat === null) throw new PageError("bug", { reason: "there is no model yet" });
    this._abort = new AbortController();
    const { result, isKept } = await this._ask(this._chat, question, this._abort.signal);
    report({ type: "end", result, messages: isKept ? this._chat.messages : null });
  }
}

/** @param {Report} content */
export function report(content) {
  postMessage(content);
}
