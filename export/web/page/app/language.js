/** Which language the page speaks, and how it says something in it. */

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
 * @param {Record<string, string | number>} [values] For what stands in braces.
 */
export function say(key, values = {}) {
  return filled(TEXTS[current][key], values);
}

/**
 * What an error means.
 *
 * @param {import("../engine/errors.js").ErrorCode} code
 * @param {Record<string, string | number>} details
 */
export function explain(code, details) {
  return filled(TEXTS[current].errors[code], details);
}

/** Put the texts in their places: `data-text`, `data-label` and `data-placeholder` name them. */
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

/** Speak the other language from now on. */
export function switchLanguage() {
  current = current === "en" ? "zh" : "en";
  try {
    localStorage.setItem(STORED, current);
  } catch {
    // A browser that keeps nothing asks for the language again the next time.
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
