// The requests that are marked to be compared: the last two of them.

import { fill, make } from "./dom.js";

/** @typedef {import("./record.js").Entry} Entry */

const MOST = 2;

/** Tells `marks` when others are marked. */
export class RequestMarks extends HTMLElement {
  constructor() {
    super();
    /** @type {Map<string, Entry>} */
    this.marked = new Map();
    this.said = make("p", { role: "status" });
    this.compare = make("button", { type: "button", class: "primary", text: "Compare", onclick: () => this.open() });
    const clear = make("button", { type: "button", text: "Clear", onclick: () => this.clear() });
    /** @type {import("./request-comparison.js").RequestComparison | null} */
    this.comparison = null;
    this.bar = make("div", { class: "bar" }, this.said, this.compare, clear);
    fill(this, this.bar);
    this.draw();
  }

  /** @param {Entry} entry @param {boolean} wanted */
  put(entry, wanted) {
    if (wanted) this.marked.set(entry.request_id, entry);
    else this.marked.delete(entry.request_id);
    for (const id of this.marked.keys()) if (this.marked.size > MOST) this.marked.delete(id);
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
    await this.comparison.open([...this.marked.keys()]);
  }
}

customElements.define("fs-request-marks", RequestMarks);
