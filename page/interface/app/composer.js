/** The form in which messages are written: Enter sends, Shift+Enter begins a new line, Escape stops the answer. */

import { pageElement } from "./page-element.js";

/** The key code of a key that an input method handles. */
const TAKEN_BY_INPUT_METHOD = 229;

/** The form below the conversation. */
export class Composer {
  /**
   * @param {(text: string) => boolean} onSend Whether the message was sent; it stays in the form if not.
   * @param {() => void} onStop
   */
  constructor(onSend, onStop) {
    this._onSend = onSend;
    this._form = pageElement("composer", HTMLFormElement);
    this._question = pageElement("question", HTMLTextAreaElement);
    this._send = pageElement("send", HTMLButtonElement);
    this._stop = pageElement("stop", HTMLButtonElement);
    this._notice = pageElement("notice", HTMLParagraphElement);
    this._isBusy = false;
    this._form.addEventListener("submit", (event) => {
      event.preventDefault();
      this._submit();
    });
    this._question.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || isComposing(event)) return;
      event.preventDefault();
      this._submit();
    });
    this._stop.addEventListener("click", onStop);
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this._isBusy && !isComposing(event)) onStop();
    });
  }

  /** Show the form, and put the cursor into it. */
  open() {
    this._form.hidden = false;
    this.focus();
  }

  focus() {
    this._question.focus();
  }

  /** @param {string} text */
  notice(text) {
    this._notice.textContent = text;
  }

  /** @param {boolean} isBusy Whether an answer is being written: it can be stopped then, and nothing sent. */
  setBusy(isBusy) {
    const stopHadFocus = document.activeElement === this._stop;
    this._isBusy = isBusy;
    this._send.hidden = isBusy;
    this._stop.hidden = !isBusy;
    if (stopHadFocus) this.focus();
  }

  _submit() {
    const text = this._question.value;
    if (this._isBusy || text.trim() === "") return;
    if (!this._onSend(text)) return;
    this._question.value = "";
    this.focus();
  }
}

/**
 * Whether a key is an input method's: Enter takes its suggestion, Escape drops it.
 *
 * @param {KeyboardEvent} event
 */
function isComposing(event) {
  // In Safari the composition has ended already when the Enter that ends it arrives; the key code still tells.
  return event.isComposing || event.keyCode === TAKEN_BY_INPUT_METHOD;
}
