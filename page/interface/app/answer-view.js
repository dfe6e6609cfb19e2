/** The view of one answer, while it is being written. */

import { say } from "./language.js";
import { newElement } from "./page-element.js";

/** A list item that text streams into; what arrives between two frames is drawn at once. */
export class AnswerView {
  /** @param {() => void} onGrown Called when the item's height may have changed. */
  constructor(onGrown) {
    this._onGrown = onGrown;
    this.element = newElement("li", { class: "answer writing" });
    this.element.append(newElement("span", { class: "visually-hidden", text: `${say("model")}: ` }));
    this._text = newElement("p", { class: "text answer-text" });
    this.element.append(this._text);
    /** @type {HTMLElement | null} */
    this._thinking = null;
    this._waiting = { think: "", answer: "" };
    this._isScheduled = false;
  }

  /** The text of the answer, without its thinking. */
  get text() {
    return this._text.textContent ?? "";
  }

  /** @param {import("../engine/think-splitter.js").Segment} segment */
  append({ kind, text }) {
    this._waiting[kind] += text;
    if (this._isScheduled) return;
    this._isScheduled = true;
    requestAnimationFrame(() => this._draw());
  }

  /** Forget what was written so far. */
  clear() {
    this._waiting = { think: "", answer: "" };
    this._text.textContent = "";
    if (this._thinking !== null) this._thinking.textContent = "";
  }

  /** @param {import("../engine/completion.js").CompletionResult} result */
  finish(result) {
    this._draw();
    this.element.classList.remove("writing");
    this.element.dataset.tokenIds = result.tokenIds.join(",");
    if (this.text === "") this._text.append(newElement("em", { text: say("empty") }));
    this.element.append(newElement("p", { class: "facts", text: describe(result) }));
    this._onGrown();
  }

  /** @param {string} message The reason why the answer ends here. */
  fail(message) {
    this._draw();
    this.element.classList.remove("writing");
    const error = newElement("p", { class: "error", text: message });
    error.setAttribute("role", "alert");
    this.element.append(error);
    this._onGrown();
  }

  _draw() {
    this._isScheduled = false;
    const { think, answer } = this._waiting;
    this._waiting = { think: "", answer: "" };
    if (think !== "") this._thinkingText().append(think);
    if (answer !== "") this._text.append(answer);
    this._onGrown();
  }

  _thinkingText() {
    if (this._thinking === null) {
      const details = newElement("details");
      this._thinking = newElement("p", { class: "text" });
      details.append(newElement("summary", { text: say("thinkingLabel") }), this._thinking);
      this._text.before(details);
    }
    return this._thinking;
  }
}

/** @param {import("../engine/completion.js").CompletionResult} result */
function describe(result) {
  const facts = say("facts", {
    tokens: result.tokens,
    speed: result.tokensPerSecond.toFixed(1),
    first: result.firstTokenSeconds.toFixed(2),
  });
  if (result.finishReason === "length") return `${facts} · ${say("cut")}`;
  return result.finishReason === "cancelled" ? `${facts} · ${say("cancelled")}` : facts;
}
