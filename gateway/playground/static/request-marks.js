// The requests that are marked to be compared: the last two of them.

import { fill, make } from "./dom.js";

const MOST = 2;

/** Tells `marks` when others are marked. */
export class RequestMarks extends HTMLElement {
  constructor() {
    super();
    /** @type {Set<string>} */
    this.marked = new Set();
    this.said = make("p", { role: "status" });
    this.compare = make("button", { type: "button", class: "primary", text: "Compare", onclick: () => this.open() });
    const clear = make("button", { type: "button", text: "Clear", onclick: () => this.clear() });
    /** @type {import("./request-comparison.js").RequestComparison | null} */
    this.comparison = null;
    this.bar = make("div", { class: "bar" }, this.said, this.compare, clear);
    fill(this, this.bar);
    this.draw();
  }

  /** @param {string} id @param {boolean} wanted */
  put(id, wanted) {
    if (wanted) this.marked.add(id);
    else this.marked.delete(id);
    for (const each of this.marked) if (this.marked.size > MOST) this.marked.delete(each);
    this.draw();
  }

  clear() {
    this.marked.clear();
    this.draw();
  }

  draw() {
    const { size } = this.marked;
    this.bar.hidden = !size;
    this.compare.disabled = size < MOST;
    this.said.textContent = size < MOST ? "Mark another one to compare." : "Two requests are marked.";
    this.dispatchEvent(new Event("marks"));
  }

  async open() {
    const { RequestComparison } = await import("./request-comparison.js");
    if (!this.comparison) this.append((this.comparison = new RequestComparison()));
    await this.comparison.open([...this.marked]);
  }
}

customElements.define("fs-request-marks", RequestMarks);
