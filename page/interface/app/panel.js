/** The panel of settings and model card: next to the conversation on a wide screen, over it on a narrow one. */

import { pageElement } from "./page-element.js";

/** The media query of a narrow screen, the same as in style.css. */
const NARROW = "(max-width: 60rem)";

/** Make the panel open and close. */
export function preparePanel() {
  const panel = pageElement("panel", HTMLElement);
  const opener = pageElement("open-panel", HTMLButtonElement);
  const closer = pageElement("close-panel", HTMLButtonElement);
  const header = ["title", "new-chat", "language", "open-panel"].map((id) => pageElement(id, HTMLElement));
  const covered = [...header, pageElement("composer", HTMLElement), ...document.querySelectorAll("main")];
  const show = (/** @type {boolean} */ isOpen) => {
    panel.classList.toggle("open", isOpen);
    opener.setAttribute("aria-expanded", String(isOpen));
    for (const element of covered) /** @type {HTMLElement} */ (element).inert = isOpen;
    (isOpen ? closer : opener).focus();
  };
  opener.addEventListener("click", () => show(true));
  closer.addEventListener("click", () => show(false));
  panel.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !panel.classList.contains("open")) return;
    event.stopPropagation(); // otherwise Escape would stop the answer too
    show(false);
  });
  // On a screen that was turned or widened the panel covers nothing, and has no button to close it.
  matchMedia(NARROW).addEventListener("change", ({ matches }) => {
    if (!matches && panel.classList.contains("open")) show(false);
  });
}
