/** The form of settings: sampling, and what depends on the place where the model runs. */

import { describe, showFields } from "./place.js";
import { formField, pageElement } from "./page-element.js";

/** @typedef {import("../engine/messages.js").ModelFacts} ModelFacts */

const SAMPLING = /** @type {const} */ (["temperature", "topK", "topP", "repetitionPenalty"]);

/** The form in the panel. */
export class SettingsForm {
  constructor() {
    this._form = pageElement("settings", HTMLFormElement);
    /** @type {ModelFacts | null} */
    this._facts = null;
    showFields(this._form);
    this._field("greedy").addEventListener("change", () => this._disableUnused());
    pageElement("reset", HTMLButtonElement).addEventListener("click", () => this._reset());
    this._form.addEventListener("submit", (event) => event.preventDefault());
  }

  /**
   * Show the model's own defaults.
   *
   * @param {ModelFacts} facts
   */
  show(facts) {
    const isFirst = this._facts === null;
    this._facts = facts;
    pageElement("thinking", HTMLLabelElement).hidden = !facts.knowsThinking;
    if (isFirst) this._reset();
    this.translate();
  }

  /** Write the hints in the language in use. */
  translate() {
    if (this._facts !== null) describe(this._facts);
  }

  /**
   * Whether every value is in its range; the browser points at the first that is not.
   */
  isValid() {
    return this._form.reportValidity();
  }

  /**
   * A question with these settings.
   *
   * @param {string} text
   * @param {boolean} again Whether its answer takes the place of the last one.
   * @returns {import("../engine/messages.js").Question}
   */
  question(text, again) {
    const seed = this._number("seed");
    const own = this._facts?.params;
    const given = SAMPLING.map((name) => [name, this._number(name) ?? own?.[name]]);
    const greedy = /** @type {HTMLInputElement} */ (this._field("greedy")).checked;
    const thinking = this._field("thinking").value;
    return {
      text,
      system: this._field("system").value.trim(),
      thinking: thinking === "" ? null : thinking === "yes",
      params: { ...own, ...Object.fromEntries(given), seed, greedy },
      maxNewTokens: this._number("maxNewTokens") ?? 1,
      again,
    };
  }

  _reset() {
    if (this._facts === null) return;
    const { params, maxNewTokens } = this._facts;
    for (const name of SAMPLING) this._field(name).value = String(params[name]);
    this._field("seed").value = "";
    this._field("maxNewTokens").value = String(maxNewTokens);
    /** @type {HTMLInputElement} */ (this._field("greedy")).checked = params.greedy;
    this._disableUnused();
  }

  /** Disable the settings of random sampling while decoding is greedy. */
  _disableUnused() {
    const greedy = /** @type {HTMLInputElement} */ (this._field("greedy")).checked;
    for (const name of ["temperature", "topK", "topP", "seed"]) this._field(name).disabled = greedy;
  }

  /** @param {string} name */
  _number(name) {
    const { value } = this._field(name);
    return value === "" ? null : Number(value);
  }

  /** @param {string} name */
  _field(name) {
    return formField(this._form, name);
  }
}
