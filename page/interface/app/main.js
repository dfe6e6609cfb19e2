/** The page: creates its parts, and passes events from one part to the others. */

import { Composer } from "./composer.js";
import { ConversationView } from "./conversation-view.js";
import { explain, say, switchLanguage, translatePage } from "./language.js";
import { LoadingView } from "./loading-view.js";
import { modelName, showModelCard } from "./model-card.js";
import { ModelClient } from "./model-client.js";
import { newElement, pageElement } from "./page-element.js";
import { preparePanel } from "./panel.js";
import { WELCOME, loadOptions, prepare, remark } from "./place.js";
import { SettingsForm } from "./settings-form.js";

/** @typedef {import("../engine/messages.js").Report} Report */
/** @typedef {import("../engine/messages.js").ModelFacts} ModelFacts */

/** The parts of the page and the state that they share. */
class Page {
  constructor() {
    this._loading = new LoadingView(() => this._retry());
    this._conversation = new ConversationView();
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
    /** @type {import("./answer-view.js").AnswerView | null} */
    this._answer = null;
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
    else if (report.type === "end") this._finish(report.result);
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
    document.title = modelName(facts.manifest);
    pageElement("title", HTMLHeadingElement).textContent = modelName(facts.manifest);
    const text = remark(facts);
    if (text !== "") this._composer.notice(text);
    this._showWelcome();
    this._composer.open();
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
    this._composer.notice("");
    this._welcome.hidden = true;
    this._answer = this._conversation.begin(text);
    this._composer.setBusy(true);
    this._newChat.disabled = true;
    this._client.ask(this._settings.question(text));
    return true;
  }

  /** @param {import("../engine/completion.js").CompletionResult} result */
  _finish(result) {
    this._answer?.finish(result);
    this._conversation.announce(say("answered", { text: this._answer?.text ?? "" }));
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

translatePage();
await new Page().start();
