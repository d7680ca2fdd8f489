// A number with a range: a slider, and a field for the exact value.

import { Control } from "./control.js";
import { fill, make } from "./dom.js";

/** @typedef {import("./schema.js").Field} Field */

export class RangeField extends Control {
  /** @param {Field} field */
  constructor(field) {
    super(field);
    const { minimum: min, maximum: max, type } = field.schema;
    const step = type === "integer" ? 1 : max - min <= 2 ? 0.01 : 0.1;
    this.slider = make("input", { type: "range", min, max, step, "aria-label": `${field.label}, slider` });
    this.number = make("input", { type: "number", min, max, step: "any" });
    this.slider.addEventListener("input", () => (this.number.value = this.slider.value));
    this.number.addEventListener("input", () => (this.slider.value = this.number.value));
    fill(this, this.slider, this.number);
    this.value = undefined;
  }

  get target() {
    return this.number;
  }

  get value() {
    const text = this.number.value;
    return text === "" || Number(text) === this.field.initial ? undefined : Number(text);
  }

  set value(value) {
    const given = value ?? this.field.initial;
    this.number.value = given === null ? "" : String(given);
    this.slider.value = this.number.value;
  }
}

customElements.define("fs-range", RangeField);
