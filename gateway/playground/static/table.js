// Tables: a head, rows of text or elements, and room to scroll where the screen is narrow.

import { make } from "./dom.js";

/** @param {...(Node | string)} cells @returns {HTMLTableRowElement} */
export function row(...cells) {
  return make("tr", {}, ...cells.map((cell) => make("td", {}, cell)));
}

/** @param {string[]} names @param {HTMLTableRowElement[]} rows @param {string} [label] What it is of. */
export function table(names, rows, label = names.join(", ")) {
  const head = make("thead", {}, make("tr", {}, ...names.map((text) => make("th", { scope: "col", text }))));
  return make("div", { class: "table", tabindex: "0", role: "region", "aria-label": label }, make("table", {}, head, make("tbody", {}, ...rows)));
}
