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
