/** The conversation as the browser keeps it over a reload: in this tab alone, and for one model. */

/** @typedef {import("../engine/completion.js").CompletionResult} CompletionResult */
/** @typedef {import("../engine/chat-template.js").Message} Message */

const FORMAT = 1;
const PREFIX = "minimind-edge-conversation-";

/**
 * A question with its answer.
 *
 * @typedef {object} Turn
 * @property {string} question
 * @property {string} thinking
 * @property {string} answer
 * @property {CompletionResult} result
 */

/** Turns with the history that the model was given, which may lack the oldest ones. */
export class SavedConversation {
  /** @param {string} model What the model is known by, such as its graph's SHA-256. */
  constructor(model) {
    this._key = `${PREFIX}${model}`;
    /** @type {Turn[]} */
    this.turns = [];
    /** @type {Message[]} */
    this.messages = [];
    this._read();
  }

  /**
   * Add a turn, or put it in the last one's place.
   *
   * @param {Turn} turn
   * @param {Message[]} messages The history with it.
   * @param {boolean} replacesLast
   */
  add(turn, messages, replacesLast) {
    if (replacesLast) this.turns.pop();
    this.turns.push(turn);
    this.messages = messages;
    this._write(JSON.stringify({ format: FORMAT, turns: this.turns, messages }));
  }

  clear() {
    this.turns = [];
    this.messages = [];
    this._write(null);
  }

  /** @param {string | null} content */
  _write(content) {
    try {
      if (content === null) sessionStorage.removeItem(this._key);
      else sessionStorage.setItem(this._key, content);
    } catch {
      // Without storage, or when it is full, a reload begins a new conversation.
    }
  }

  /** Read what was kept; anything else than this page writes counts as nothing. */
  _read() {
    try {
      const kept = JSON.parse(sessionStorage.getItem(this._key) ?? "null");
      if (kept?.format !== FORMAT || !kept.turns.every(isTurn) || !kept.messages.every(isMessage)) return;
      this.turns = kept.turns;
      this.messages = kept.messages;
    } catch {
      // It is not JSON, or of another form.
    }
  }
}

/** @param {any} turn */
function isTurn(turn) {
  const texts = [turn.question, turn.thinking, turn.answer, turn.result.finishReason];
  const numbers = [turn.result.tokensPerSecond, turn.result.firstTokenSeconds, ...turn.result.tokenIds];
  return texts.every((text) => typeof text === "string") && numbers.every((number) => typeof number === "number");
}

/** @param {any} message */
function isMessage(message) {
  return ["user", "assistant"].includes(message.role) && typeof message.content === "string";
}
