/** The view of one answer, while it is being written and after. */

import { say } from "./language.js";
import { MarkdownView } from "./markdown.js";
import { newElement } from "./page-element.js";

/** @typedef {import("../engine/completion.js").CompletionResult} CompletionResult */

/**
 * The actions on an answer that is complete.
 *
 * @typedef {object} AnswerActions
 * @property {(text: string) => Promise<boolean>} copy Copies a text; whether that was possible.
 * @property {() => void} regenerate Asks the same question again.
 */

/** A list item that text streams into; what arrives between two frames is drawn at once. */
export class AnswerView {
  /**
   * @param {() => void} onGrown Called when the item's height may have changed.
   * @param {AnswerActions} actions
   */
  constructor(onGrown, actions) {
    this._onGrown = onGrown;
    this._actions = actions;
    this.element = newElement("li", { class: "answer writing" });
    this.element.append(newElement("span", { class: "visually-hidden", text: `${say("model")}: ` }));
    const text = newElement("div", { class: "answer-text" });
    this.element.append(text);
    this._view = new MarkdownView(text);
    this._text = text;
    /** @type {HTMLElement | null} */
    this._thinking = null;
    this._written = { think: "", answer: "" };
    this._isScheduled = false;
  }

  /** The text of the answer as the model wrote it, without its thinking. */
  get text() {
    return this._written.answer;
  }

  /** The thinking before the answer. */
  get thinking() {
    return this._written.think;
  }

  /** @param {import("../engine/think-splitter.js").Segment} segment */
  append({ kind, text }) {
    this._written[kind] += text;
    if (this._isScheduled) return;
    this._isScheduled = true;
    requestAnimationFrame(() => this._draw());
  }

  /** Forget what was written so far. */
  clear() {
    this._written = { think: "", answer: "" };
    this._draw();
  }

  /** @param {CompletionResult} result */
  finish(result) {
    this._draw();
    this.element.classList.remove("writing");
    this.element.dataset.tokenIds = result.tokenIds.join(",");
    if (this.text === "") this._text.append(newElement("em", { text: say("empty") }));
    const end = newElement("div", { class: "end" });
    end.append(newElement("p", { class: "facts", text: describe(result) }), ...this._buttons());
    this.element.append(end);
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

  /** Take back the button that asks again: another question follows. */
  settle() {
    this.element.querySelector(".regenerate")?.remove();
  }

  _buttons() {
    const copy = button("copy");
    copy.hidden = this.text === "";
    copy.addEventListener("click", async () => {
      copy.textContent = say((await this._actions.copy(this.text)) ? "copied" : "copyFailed");
    });
    const regenerate = button("regenerate");
    regenerate.addEventListener("click", () => this._actions.regenerate());
    return [copy, regenerate];
  }

  _draw() {
    this._isScheduled = false;
    const { think, answer } = this._written;
    if (think !== "" || this._thinking !== null) this._thinkingText().textContent = think;
    this._view.show(answer);
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

/** @param {"copy" | "regenerate"} name */
function button(name) {
  const element = newElement("button", { class: `quiet ${name}`, text: say(name) });
  element.type = "button";
  return element;
}

/** @param {CompletionResult} result */
function describe(result) {
  const facts = say("facts", {
    tokens: result.tokens,
    speed: result.tokensPerSecond.toFixed(1),
    first: result.firstTokenSeconds.toFixed(2),
  });
  if (result.finishReason === "length") return `${facts} · ${say("cut")}`;
  return result.finishReason === "cancelled" ? `${facts} · ${say("cancelled")}` : facts;
}
