/** The language of the page, and its texts in that language. */

import { TEXTS } from "./texts.js";

/** @typedef {import("./texts.js").Language} Language */
/** @typedef {import("./texts.js").TextKey} TextKey */

const STORED = "minimind-edge-language";

/** @type {Language} */
let current = chosenBefore() ?? (navigator.language.startsWith("zh") ? "zh" : "en");

/** The language in use. */
export function language() {
  return current;
}

/**
 * A text in the language in use.
 *
 * @param {TextKey} key
 * @param {Record<string, string | number>} [values] The values for the names in braces.
 */
export function say(key, values = {}) {
  return filled(TEXTS[current][key], values);
}

/**
 * The explanation of an error.
 *
 * @param {import("../engine/errors.js").ErrorCode} code
 * @param {Record<string, string | number>} details
 */
export function explain(code, details) {
  return filled(TEXTS[current].errors[code], details);
}

/** Fill in the texts of all elements; their `data-text`, `data-label` and `data-placeholder` hold the texts' keys. */
export function translatePage() {
  document.documentElement.lang = current;
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = say(keyOf(element, "text"));
  for (const element of document.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", say(keyOf(element, "label")));
  }
  for (const element of document.querySelectorAll("[data-placeholder]")) {
    element.setAttribute("placeholder", say(keyOf(element, "placeholder")));
  }
}

/** Switch to the other language. */
export function switchLanguage() {
  current = current === "en" ? "zh" : "en";
  try {
    localStorage.setItem(STORED, current);
  } catch {
    // Without storage the choice is lost when the page is closed.
  }
  translatePage();
}

/** @returns {Language | null} */
function chosenBefore() {
  try {
    const stored = localStorage.getItem(STORED);
    return stored === "en" || stored === "zh" ? stored : null;
  } catch {
    return null;
  }
}

/**
 * @param {Element} element
 * @param {string} place
 */
function keyOf(element, place) {
  return /** @type {TextKey} */ (element.getAttribute(`data-${place}`));
}

/**
 * @param {string} text
 * @param {Record<string, string | number>} values
 */
function filled(text, values) {
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}
