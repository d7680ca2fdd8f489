// Some of many values, in the order in which they were chosen, with a search where there are many.

import { Control } from "./control.js";
import { fill, make } from "./dom.js";
import { same } from "./json.js";

/** @typedef {import("./schema.js").Field} Field */

const MANY = 12;

export class ChoicesField extends Control {
  /** @param {Field} field */
  constructor(field) {
    super(field);
    /** @type {string[]} */
    this.chosen = [];
    this.chips = make("div", { class: "chips" });
    this.boxes = field.options.map((option) => make("input", { type: "checkbox", value: option }));
    this.rows = this.boxes.map((box) => make("label", {}, box, make("span", { text: box.value })));
    const many = field.options.length > MANY;
    const list = make("div", { class: many ? "options many" : "options" }, ...this.rows);
    this.addEventListener("change", (event) => this.pick(event.target));
    fill(this, many && this.chips, many && this.search(), list);
    this.value = undefined;
  }

  search() {
    const label = `Search ${this.field.options.length} ${this.field.label.toLowerCase()}`;
    const found = make("input", { type: "search", placeholder: label, "aria-label": label });
    found.addEventListener("input", () => {
      const words = found.value.toLowerCase().split(/\s+/);
      for (const row of this.rows) {
        row.hidden = !words.every((word) => row.textContent?.toLowerCase().includes(word));
      }
    });
    return found;
  }

  /** @param {EventTarget | null} box */
  pick(box) {
    if (!(box instanceof HTMLInputElement) || box.type !== "checkbox") return;
    this.chosen = this.chosen.filter((each) => each !== box.value);
    if (box.checked) this.chosen.push(box.value);
    this.draw();
  }

  draw() {
    const remove = (/** @type {string} */ value) => () => {
      this.value = this.chosen.filter((each) => each !== value);
      this.changed();
    };
    const chips = this.chosen.map((value) =>
      make("button", { type: "button", class: "chip", "aria-label": `Remove ${value}`, onclick: remove(value) }, value, " ×"),
    );
    fill(this.chips, ...(chips.length ? chips : ["None is chosen."]));
  }

  get value() {
    return same(this.chosen, this.field.initial) ? undefined : [...this.chosen];
  }

  set value(value) {
    this.chosen = [...(value ?? this.field.initial ?? [])];
    for (const box of this.boxes) box.checked = this.chosen.includes(box.value);
    this.draw();
  }
}

customElements.define("fs-choices", ChoicesField);
