// Begins the page that the shell names. Each page is one element, and is loaded where it is wanted.

import "./header.js";
import { fill, make } from "./dom.js";

/** @returns {Promise<HTMLElement>} */
async function page() {
  switch (document.body.dataset.page) {
    case "playground":
      return new (await import("./playground.js")).Playground();
    case "requests":
      return new (await import("./requests.js")).Requests();
    case "status":
      return new (await import("./status.js")).ServiceStatus();
    default:
      return make("h1", { text: "There is no such endpoint." });
  }
}

const main = /** @type {HTMLElement} */ (document.getElementById("main"));
try {
  fill(main, await page());
} catch (fault) {
  fill(main, make("p", { class: "error", role: "alert", text: String(fault) }));
}
