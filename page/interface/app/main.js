/** The page: creates its parts, and passes events from one part to the others. */

import { Composer } from "./composer.js";
import { ConversationView } from "./conversation-view.js";
import { explain, say, switchLanguage, translatePage } from "./language.js";
import { LoadingView } from "./loading-view.js";
import { showModelCard } from "./model-card.js";
import { ModelClient } from "./model-client.js";
import { newElement, pageElement } from "./page-element.js";
import { preparePanel } from "./panel.js";
import { WELCOME, conversationKey, loadOptions, prepare, remark, titleOf } from "./place.js";
import { SavedConversation } from "./saved-conversation.js";
import { SettingsForm } from "./settings-form.js";

/** @typedef {import("../engine/messages.js").Report} Report */
/** @typedef {import("../engine/messages.js").ModelFacts} ModelFacts */

/** The parts of the page and the state that they share. */
class Page {
  constructor() {
    this._loading = new LoadingView(() => this._retry());
    this._conversation = new ConversationView({ copy, regenerate: () => this._regenerate() });
    this._settings = new SettingsForm();
    this._composer = new Composer((text) => this._ask(text), () => this._client.stop());
    this._welcome = pageElement("welcome", HTMLElement);
    this._newChat = pageElement("new-chat", HTMLButtonElement);
    this._newChat.addEventListener("click", () => this._clear());
    pageElement("language", HTMLButtonElement).addEventListener("click", () => this._switchLanguage());
    preparePanel();
    this._client = new ModelClient((report) => this._hear(report));
    /** @type {ModelFacts | null} */
    this._facts = null;
    /** @type {import("./answer-view.js").AnswerView | null} The answer that is being written. */
    this._answer = null;
    /** @type {import("../engine/messages.js").Question | null} */
    this._question = null;
    /** @type {SavedConversation | null} */
    this._saved = null;
  }

  async start() {
    this._loading.showStage("starting");
    if (await prepare()) this._client.load(loadOptions());
  }

  _retry() {
    this._client.restart();
    this._loading.showStage("starting");
    this._client.load(loadOptions());
  }

  /** @param {Report} report */
  _hear(report) {
    if (report.type === "progress") this._loading.showProgress(report.loaded, report.total);
    else if (report.type === "ready") this._beReady(report.facts);
    else if (report.type === "segment") this._answer?.append(report.segment);
    else if (report.type === "restart") this._answer?.clear();
    else if (report.type === "dropped") this._conversation.note(say("dropped", { count: report.count }));
    else if (report.type === "fallback") this._composer.notice(say("fallback", { reason: report.reason }));
    else if (report.type === "end") this._finish(report.result, report.messages);
    else this._fail(report.code, report.details);
  }

  /** @param {ModelFacts} facts */
  _beReady(facts) {
    const isFirst = this._facts === null;
    this._facts = facts;
    this._settings.show(facts);
    showModelCard(facts.manifest);
    this._loading.hide();
    if (!isFirst) return;
    document.title = titleOf(facts);
    pageElement("title", HTMLHeadingElement).textContent = titleOf(facts);
    const text = remark(facts);
    if (text !== "") this._composer.notice(text);
    this._saved = new SavedConversation(conversationKey(facts));
    if (this._saved.turns.length > 0) this._showSaved(this._saved);
    else this._showWelcome();
    this._composer.open();
  }

  /** @param {SavedConversation} saved */
  _showSaved({ turns, messages }) {
    for (const { question, thinking, answer, result } of turns) {
      const view = this._conversation.begin(question);
      if (thinking !== "") view.append({ kind: "think", text: thinking });
      view.append({ kind: "answer", text: answer });
      view.finish(result);
      this._question = this._settings.question(question, false);
    }
    this._conversation.announce("");
    this._client.restore(messages);
    this._newChat.disabled = false;
  }

  /**
   * Send a question to the model, unless a setting is out of its range.
   *
   * @param {string} text
   */
  _ask(text) {
    if (!this._settings.isValid()) {
      this._composer.notice(say("invalidSettings"));
      return false;
    }
    this._send(text, false);
    return true;
  }

  /** Ask the last question again; the answer replaces the last one. */
  _regenerate() {
    if (this._question === null || this._answer !== null) return;
    if (this._settings.isValid()) this._send(this._question.text, true);
    else this._composer.notice(say("invalidSettings"));
    this._composer.focus();
  }

  /**
   * @param {string} text
   * @param {boolean} again
   */
  _send(text, again) {
    this._composer.notice("");
    this._welcome.hidden = true;
    this._answer = again ? this._conversation.beginAgain() : this._conversation.begin(text);
    this._composer.setBusy(true);
    this._newChat.disabled = true;
    this._question = this._settings.question(text, again);
    this._client.ask(this._question);
  }

  /**
   * @param {import("../engine/completion.js").CompletionResult} result
   * @param {import("../engine/chat-template.js").Message[] | null} messages The history with this turn; null where the
   *   turn did not enter it, as when it was stopped before its first word.
   */
  _finish(result, messages) {
    const { _answer: answer, _question: question } = this;
    answer?.finish(result);
    this._conversation.announce(say("answered", { text: answer?.text ?? "" }));
    if (answer !== null && question !== null && messages !== null) {
      const turn = { question: question.text, thinking: answer.thinking, answer: answer.text, result };
      this._saved?.add(turn, messages, question.again);
    }
    this._rest();
  }

  /**
   * @param {import("../engine/errors.js").ErrorCode} code
   * @param {Record<string, string | number>} details
   */
  _fail(code, details) {
    if (this._answer === null) {
      this._loading.showError(code, details);
      return;
    }
    if (code === "stuck" && this._saved !== null) this._client.restore(this._saved.messages);
    this._answer.fail(explain(code, details));
    this._rest();
  }

  _rest() {
    this._answer = null;
    this._composer.setBusy(false);
    this._newChat.disabled = false;
  }

  _clear() {
    this._client.clear();
    this._saved?.clear();
    this._question = null;
    this._conversation.clear();
    this._newChat.disabled = true;
    this._showWelcome();
    this._composer.focus();
  }

  _showWelcome() {
    const chats = this._facts?.chats ?? false;
    this._welcome.hidden = false;
    pageElement("welcome-text", HTMLParagraphElement).textContent = chats ? say(WELCOME) : `${say("welcomeRaw")} ${say(WELCOME)}`;
    const examples = chats ? say("examples").split("\n") : [];
    const items = examples.map((example) => {
      const button = newElement("button", { text: example });
      button.type = "button";
      button.addEventListener("click", () => {
        // The button is gone by then, and focusing the form would open a phone's keyboard.
        if (this._ask(example)) this._conversation.focus();
      });
      const item = newElement("li");
      item.append(button);
      return item;
    });
    pageElement("examples", HTMLUListElement).replaceChildren(...items);
  }

  _switchLanguage() {
    switchLanguage();
    if (this._facts === null) return;
    this._settings.translate();
    showModelCard(this._facts.manifest);
    if (!this._welcome.hidden) this._showWelcome();
  }
}

/**
 * Copy a text to the clipboard, which browsers allow on https and localhost alone.
 *
 * @param {string} text
 */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

translatePage();
await new Page().start();
