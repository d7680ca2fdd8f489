// The sides of a picture at which it can be continued, as buttons round it: each as large as what will grow there.

import { fill, make } from "./dom.js";

/** Tells `edge` with the side that was pressed. */
export class Edges extends HTMLElement {
  /** @param {string[]} sides Left, Right, Top, Bottom, in any order. */
  constructor(sides) {
    super();
    this.buttons = sides.map((side) => {
      const told = `Continue the picture: ${side.toLowerCase()}`;
      const made = make("button", { type: "button", class: side.toLowerCase(), title: told, "aria-label": told, value: side });
      made.append(make("span", { text: side }));
      made.addEventListener("click", () => this.dispatchEvent(new CustomEvent("edge", { detail: side })));
      return made;
    });
    this.setAttribute("role", "group");
    this.setAttribute("aria-label", "Sides at which the picture is continued");
    /** @type {HTMLElement | null} */
    this.picture = null;
  }

  /** Takes a picture into its middle. @param {HTMLElement} picture @param {number} width @param {number} height */
  hold(picture, width, height) {
    this.picture = picture;
    this.style.setProperty("--shape", String(width / height));
    fill(this, picture, ...this.buttons);
  }

  /** @param {string[]} sides Those that are chosen. @param {boolean} acts Whether the mode continues pictures. */
  show(sides, acts) {
    for (const button of this.buttons) {
      button.setAttribute("aria-pressed", String(sides.includes(button.value)));
      button.disabled = !acts;
    }
  }
}

customElements.define("fs-edges", Edges);
