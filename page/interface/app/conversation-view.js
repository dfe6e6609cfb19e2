/** The view of the conversation: questions, answers and notes, and their announcements for screen readers. */

import { AnswerView } from "./answer-view.js";
import { say } from "./language.js";
import { newElement, pageElement } from "./page-element.js";

/** The distance from the list's end, in pixels, up to which the list scrolls along with new text. */
const NEAR_END = 60;

/** @typedef {import("./answer-view.js").AnswerActions} AnswerActions */

/** The list of messages. */
export class ConversationView {
  /** @param {AnswerActions} actions The actions on the last answer. */
  constructor(actions) {
    this._actions = actions;
    /** @type {AnswerView | null} */
    this._last = null;
    this._list = pageElement("conversation", HTMLOListElement);
    this._announcer = pageElement("announcer", HTMLParagraphElement);
    this._follows = true;
    this._list.addEventListener("scroll", () => {
      const { scrollHeight, scrollTop, clientHeight } = this._list;
      this._follows = scrollHeight - scrollTop - clientHeight < NEAR_END;
    });
  }

  /**
   * Show a question, and begin the answer to it.
   *
   * @param {string} question
   */
  begin(question) {
    const item = newElement("li", { class: "question" });
    item.append(newElement("span", { class: "visually-hidden", text: `${say("you")}: ` }));
    item.append(newElement("p", { class: "text", text: question }));
    this._list.hidden = false;
    this._list.append(item);
    return this._beginAnswer();
  }

  /** Replace the last answer by another one that begins now. */
  beginAgain() {
    this._last?.element.remove();
    this._last = null;
    return this._beginAnswer();
  }

  /**
   * A line about the conversation, before the answer that is being written.
   *
   * @param {string} text
   */
  note(text) {
    const note = newElement("li", { class: "note", text });
    const last = this._list.lastElementChild;
    if (last?.classList.contains("writing")) last.before(note);
    else this._list.append(note);
    this._scrollToEnd();
    this.announce(text);
  }

  focus() {
    this._list.focus();
  }

  clear() {
    this._last = null;
    this._list.replaceChildren();
    this._list.hidden = true;
  }

  _beginAnswer() {
    this._last?.settle();
    const answer = new AnswerView(() => this._scrollToEnd(), this._actions);
    this._last = answer;
    this._list.append(answer.element);
    this._follows = true;
    this._scrollToEnd();
    this.announce(say("writing"));
    return answer;
  }

  /**
   * Tell a screen reader, when it has nothing else to say.
   *
   * @param {string} text
   */
  announce(text) {
    this._announcer.textContent = text;
  }

  _scrollToEnd() {
    if (this._follows) this._list.scrollTop = this._list.scrollHeight;
  }
}
