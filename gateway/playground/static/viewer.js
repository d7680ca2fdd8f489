// The full view of pictures: arrows go on, Escape closes.

import { fill, make } from "./dom.js";
import { download, shown } from "./pictures.js";

/** @typedef {import("./run.js").Picture} Picture */

export class Viewer extends HTMLElement {
  constructor() {
    super();
    /** @type {Picture[]} */
    this.pictures = [];
    this.at = 0;
    this.place = make("div", { class: "stage" });
    this.said = make("p", { role: "status" });
    const button = (/** @type {string} */ text, /** @type {string} */ title, /** @type {() => void} */ onclick) =>
      make("button", { type: "button", title, "aria-label": title, text, onclick });
    this.back = button("‹", "The picture before", () => this.go(-1));
    this.forth = button("›", "The next picture", () => this.go(1));
    this.dialog = make(
      "dialog", { class: "viewer", "aria-label": "Full view" },
      this.place,
      make("div", { class: "controls" }, this.back, this.said, this.forth,
        button("Download", "Download", () => download(this.pictures[this.at])),
        button("Close", "Close", () => this.dialog.close())),
    );
    this.dialog.addEventListener("keydown", (event) => {
      if (event.key === "ArrowLeft") this.go(-1);
      if (event.key === "ArrowRight") this.go(1);
    });
    this.dialog.addEventListener("click", (event) => {
      if (event.target === this.dialog || event.target === this.place) this.dialog.close();
    });
    fill(this, this.dialog);
  }

  /** @param {Picture[]} pictures @param {number} at */
  open(pictures, at) {
    this.pictures = pictures;
    this.at = at;
    this.draw();
    this.dialog.showModal();
  }

  /** @param {number} by */
  go(by) {
    this.at = (this.at + by + this.pictures.length) % this.pictures.length;
    this.draw();
  }

  draw() {
    const picture = this.pictures[this.at];
    const { length } = this.pictures;
    fill(this.place, shown(picture, `Picture ${this.at + 1}`));
    const size = picture.width ? ` · ${picture.width} × ${picture.height}` : "";
    this.said.textContent = `${this.at + 1} of ${length}${size}`;
    this.back.hidden = this.forth.hidden = length < 2;
  }
}

customElements.define("fs-viewer", Viewer);
