/** The place where the model runs: on the visitor's device, inside the page. */

import { say } from "./language.js";
import { formField, pageElement } from "./page-element.js";

export { isolate as prepare } from "./isolation.js";

/** @typedef {import("../engine/device.js").DeviceChoice} DeviceChoice */
/** @typedef {import("../engine/messages.js").ModelFacts} ModelFacts */

/** The text that welcomes the visitor. */
export const WELCOME = "welcomeLocal";

const FIELDS = /** @type {const} */ (["device", "threads"]);

/**
 * The device and threads in the page's address, such as `?device=wasm&threads=2`.
 *
 * @returns {import("../engine/messages.js").LoadOptions}
 */
export function loadOptions() {
  const asked = new URL(location.href).searchParams;
  const device = asked.get("device");
  const threads = Number(asked.get("threads"));
  return {
    device: device === "wasm" || device === "webgpu" ? device : "auto",
    threads: Number.isInteger(threads) && threads > 0 ? threads : null,
  };
}

/**
 * Show the fields for the choice of the device; a change reloads the page.
 *
 * @param {HTMLFormElement} form
 */
export function showFields(form) {
  const { device, threads } = loadOptions();
  formField(form, "device").value = device;
  formField(form, "threads").value = threads === null ? "" : String(threads);
  for (const name of FIELDS) formField(form, name).addEventListener("change", () => choose(form));
  pageElement("computing", HTMLFieldSetElement).hidden = false;
}

/**
 * Write the hint about the device in use.
 *
 * @param {ModelFacts} facts
 */
export function describe({ device, threads }) {
  const name = device === "webgpu" ? "WebGPU" : "WebAssembly";
  const key = threads > 1 ? "deviceInUse" : "deviceInUseOne";
  pageElement("device-hint", HTMLParagraphElement).textContent = say(key, { device: name, threads });
}

/**
 * A remark about how the model runs; empty where there is none.
 *
 * @param {ModelFacts} facts
 */
export function remark({ device }) {
  return device === "wasm" && !crossOriginIsolated ? say("oneThread") : "";
}

/**
 * The title of the page, which the site's file has already.
 *
 * @param {ModelFacts} _
 */
export function titleOf(_) {
  return document.title;
}

/**
 * What the model's conversations are kept under.
 *
 * @param {ModelFacts} facts
 */
export function conversationKey({ manifest }) {
  return manifest.graph.sha256;
}

/** @param {HTMLFormElement} form */
function choose(form) {
  if (!form.reportValidity()) return;
  const address = new URL(location.href);
  for (const name of FIELDS) {
    const { value } = formField(form, name);
    if (value === "" || value === "auto") address.searchParams.delete(name);
    else address.searchParams.set(name, value);
  }
  location.assign(address);
}
