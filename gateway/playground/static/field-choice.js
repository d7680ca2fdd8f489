// One of several values, and yes or no.

import { Control } from "./control.js";
import { fill, make, uniqueId } from "./dom.js";

/** @typedef {import("./schema.js").Field} Field */

const SIDE_BY_SIDE = 4; // choices that are shown as buttons, where their names are short
const SHORT = 14;

export class ChoiceField extends Control {
  /** @param {Field} field */
  constructor(field) {
    super(field);
    const few = field.options.length <= SIDE_BY_SIDE && field.options.every((option) => option.length <= SHORT);
    this.select = few ? null : make("select", {}, ...field.options.map((option) => make("option", { value: option, text: option })));
    const name = uniqueId();
    /** @type {HTMLInputElement[]} */
    this.radios = few ? field.options.map((option) => make("input", { type: "radio", name, value: option })) : [];
    const buttons = this.radios.map((radio) => make("label", {}, radio, make("span", { text: radio.value })));
    fill(this, this.select ?? make("div", { class: "segments" }, ...buttons));
    this.value = undefined;
  }

  get target() {
    return this.select;
  }

  get value() {
    const chosen = this.select?.value ?? this.radios.find((radio) => radio.checked)?.value;
    return chosen === this.field.initial || chosen === "" ? undefined : chosen;
  }

  set value(value) {
    const chosen = value ?? this.field.initial;
    if (this.select) this.select.value = chosen ?? "";
    for (const radio of this.radios) radio.checked = radio.value === chosen;
  }
}

export class SwitchField extends Control {
  /** @param {Field} field */
  constructor(field) {
    super(field);
    this.box = make("input", { type: "checkbox", role: "switch" });
    fill(this, this.box);
    this.value = undefined;
  }

  get target() {
    return this.box;
  }

  get value() {
    return this.box.checked === this.field.initial ? undefined : this.box.checked;
  }

  set value(value) {
    this.box.checked = Boolean(value ?? this.field.initial);
  }
}

customElements.define("fs-choice", ChoiceField);
customElements.define("fs-switch", SwitchField);
