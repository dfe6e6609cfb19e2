/** Elements of the page by their id, with their types checked. */

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} kind
 * @returns {T}
 */
export function pageElement(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`the page has no ${kind.name} #${id}`);
  return found;
}

/**
 * The field of a form by its name.
 *
 * @param {HTMLFormElement} form
 * @param {string} name
 * @returns {HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement}
 */
export function formField(form, name) {
  return /** @type {any} */ (form.elements.namedItem(name));
}

/**
 * A new element.
 *
 * @template {keyof HTMLElementTagNameMap} Name
 * @param {Name} name
 * @param {{class?: string, text?: string}} [content]
 */
export function newElement(name, content = {}) {
  const element = document.createElement(name);
  if (content.class !== undefined) element.className = content.class;
  if (content.text !== undefined) element.textContent = content.text;
  return element;
}
