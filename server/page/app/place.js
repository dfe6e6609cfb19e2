/** The place where the model runs: on the server that has sent this page. */

import { say } from "./language.js";
import { formField, pageElement } from "./page-element.js";

/** @typedef {import("../engine/messages.js").ModelFacts} ModelFacts */

/** The text that welcomes the visitor. */
export const WELCOME = "welcomeServer";

const KEY = "minimind-edge-key";

/** Prepare the page; there is nothing to prepare. */
export async function prepare() {
  return true;
}

/**
 * The model in the page's address, such as `?model=minimind-demo`, and the API key of this tab.
 *
 * @returns {import("../engine/messages.js").LoadOptions}
 */
export function loadOptions() {
  return { model: new URL(location.href).searchParams.get("model"), key: storedKey() };
}

/**
 * Show the fields for model and key; a change reloads the page.
 *
 * @param {HTMLFormElement} form
 */
export function showFields(form) {
  const key = formField(form, "key");
  key.value = storedKey();
  key.addEventListener("change", () => {
    sessionStorage.setItem(KEY, key.value.trim());
    location.reload();
  });
  formField(form, "model").addEventListener("change", () => {
    const address = new URL(location.href);
    address.searchParams.set("model", formField(form, "model").value);
    location.assign(address);
  });
  pageElement("server", HTMLFieldSetElement).hidden = false;
}

/**
 * Offer the server's models.
 *
 * @param {ModelFacts} facts
 */
export function describe({ model, models }) {
  const choices = models.map((name) => new Option(name, name, false, name === model));
  pageElement("model", HTMLSelectElement).replaceChildren(...choices);
  pageElement("server-hint", HTMLParagraphElement).textContent = say("serverHint");
}

/**
 * A remark about how the model runs; empty, because there is none.
 *
 * @param {ModelFacts} _
 */
export function remark(_) {
  return "";
}

/**
 * The title of the page, the name of the model.
 *
 * @param {ModelFacts} facts
 */
export function titleOf({ model }) {
  return model;
}

/**
 * What the model's conversations are kept under.
 *
 * @param {ModelFacts} facts
 */
export function conversationKey({ model }) {
  return model;
}

function storedKey() {
  return sessionStorage.getItem(KEY) ?? "";
}
