/** The page's side of the worker that runs the model. */

/** @typedef {import("../engine/messages.js").Report} Report */
/** @typedef {import("../engine/messages.js").Request} Request */

/** Sends requests to the worker and passes its reports on. */
export class ModelClient {
  /** @param {(report: Report) => void} onReport */
  constructor(onReport) {
    this._onReport = onReport;
    this._worker = this._start();
  }

  /** @param {import("../engine/model.js").LoadOptions} options */
  load(options) {
    this._request({ type: "load", options });
  }

  /** @param {import("../engine/messages.js").Question} question */
  ask(question) {
    this._request({ type: "ask", question });
  }

  /** End the answer that is being written. */
  stop() {
    this._request({ type: "stop" });
  }

  /** Forget the conversation. */
  clear() {
    this._request({ type: "clear" });
  }

  /** Begin anew with a fresh worker. */
  restart() {
    this._worker.terminate();
    this._worker = this._start();
  }

  _start() {
    const worker = new Worker(new URL("../engine/worker.js", import.meta.url), { type: "module", name: "model" });
    worker.addEventListener("message", ({ data }) => this._onReport(data));
    worker.addEventListener("error", (event) => {
      this._onReport({ type: "error", code: "bug", details: { reason: event.message || "a script cannot be loaded" } });
    });
    return worker;
  }

  /** @param {Request} request */
  _request(request) {
    this._worker.postMessage(request);
  }
}
