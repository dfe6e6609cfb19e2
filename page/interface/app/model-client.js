/** The page's side of the worker that runs the model. */

/** @typedef {import("../engine/messages.js").Report} Report */
/** @typedef {import("../engine/messages.js").Request} Request */

/** The milliseconds that the worker has to end an answer after Stop; one long run of the model may use many of them. */
const PATIENCE = 8000;

/** Sends requests to the worker and passes its reports on. */
export class ModelClient {
  /** @param {(report: Report) => void} onReport */
  constructor(onReport) {
    this._onReport = onReport;
    this._worker = this._start();
    /** @type {import("../engine/messages.js").LoadOptions | null} */
    this._options = null;
    /** @type {number | undefined} */
    this._waiting = undefined;
  }

  /** @param {import("../engine/messages.js").LoadOptions} options */
  load(options) {
    this._options = options;
    this._request({ type: "load", options });
  }

  /** @param {import("../engine/messages.js").Question} question */
  ask(question) {
    this._request({ type: "ask", question });
  }

  /** Stop the answer that is being written; a worker that doesn't react, as in an endless template, is replaced. */
  stop() {
    this._request({ type: "stop" });
    this._waiting ??= setTimeout(() => this._replace(), PATIENCE);
  }

  /** Forget the conversation. */
  clear() {
    this._request({ type: "clear" });
  }

  /**
   * Take up a conversation that was held before.
   *
   * @param {import("../engine/chat-template.js").Message[]} messages
   */
  restore(messages) {
    this._request({ type: "restore", messages });
  }

  /** Replace the worker by a fresh one. */
  restart() {
    this._stopWaiting();
    this._worker.terminate();
    this._worker = this._start();
  }

  _replace() {
    this.restart();
    if (this._options !== null) this.load(this._options);
    this._onReport({ type: "error", code: "stuck", details: {} });
  }

  _stopWaiting() {
    clearTimeout(this._waiting);
    this._waiting = undefined;
  }

  _start() {
    const worker = new Worker(new URL("../engine/worker.js", import.meta.url), { type: "module", name: "model" });
    worker.addEventListener("message", ({ data }) => {
      if (data.type === "end" || data.type === "error") this._stopWaiting();
      this._onReport(data);
    });
    worker.addEventListener("error", ({ message }) => this._fail(message || "a script cannot be loaded"));
    worker.addEventListener("messageerror", () => this._fail("a message of the worker cannot be read"));
    return worker;
  }

  /** @param {string} reason */
  _fail(reason) {
    this._onReport({ type: "error", code: "bug", details: { reason } });
  }

  /** @param {Request} request */
  _request(request) {
    this._worker.postMessage(request);
  }
}
