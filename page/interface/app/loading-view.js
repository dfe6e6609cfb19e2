/** The view until the model is ready: the progress of loading, or the reason why it failed. */

import { explain, say } from "./language.js";
import { pageElement } from "./page-element.js";

const MEGABYTE = 1e6;

/**
 * The seconds without progress after which the visitor is told, and may begin again. A browser that ends a worker, as
 * for lack of memory, tells nobody. Loading goes on meanwhile: a slow device may prepare a model for as long as this.
 */
const PATIENCE = 30;

/** @typedef {import("./texts.js").TextKey} TextKey */

/** The view of the stages before the conversation. */
export class LoadingView {
  /** @param {() => void} onRetry */
  constructor(onRetry) {
    this._section = pageElement("loading", HTMLElement);
    this._text = pageElement("loading-text", HTMLParagraphElement);
    this._bar = pageElement("loading-bar", HTMLProgressElement);
    this._error = pageElement("loading-error", HTMLParagraphElement);
    this._retry = pageElement("retry", HTMLButtonElement);
    this._retry.addEventListener("click", onRetry);
    /** @type {number | undefined} */
    this._waiting = undefined;
  }

  /**
   * Show a stage whose length is not known.
   *
   * @param {TextKey} key
   */
  showStage(key) {
    this._expectProgress();
    this._section.hidden = false;
    this._text.hidden = false;
    this._text.textContent = say(key);
    this._bar.hidden = false;
    this._bar.removeAttribute("value");
  }

  /**
   * Show the progress of the download.
   *
   * @param {number} loaded Bytes.
   * @param {number} total Bytes.
   */
  showProgress(loaded, total) {
    if (loaded === total) {
      this.showStage("preparing");
      return;
    }
    this._expectProgress();
    const megabytes = (/** @type {number} */ bytes) => (bytes / MEGABYTE).toFixed(1);
    this._text.textContent = say("loadingModel", { loaded: megabytes(loaded), total: megabytes(total) });
    this._bar.max = total;
    this._bar.value = loaded;
  }

  /**
   * @param {import("../engine/errors.js").ErrorCode} code
   * @param {Record<string, string | number>} details
   */
  showError(code, details) {
    clearTimeout(this._waiting);
    this._section.hidden = false;
    this._text.hidden = true;
    this._bar.hidden = true;
    this._offerRetry(explain(code, details));
    this._retry.focus();
  }

  hide() {
    clearTimeout(this._waiting);
    this._section.hidden = true;
  }

  _expectProgress() {
    this._error.hidden = true;
    this._retry.hidden = true;
    clearTimeout(this._waiting);
    this._waiting = setTimeout(() => this._offerRetry(say("noProgress", { seconds: PATIENCE })), PATIENCE * 1000);
  }

  /** @param {string} reason */
  _offerRetry(reason) {
    this._error.textContent = reason;
    this._error.hidden = false;
    this._retry.hidden = false;
  }
}
