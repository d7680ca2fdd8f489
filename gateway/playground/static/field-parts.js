// Fields of several parts: an object, such as an image prompt, and a list of objects, such as LoRAs.

import { Control } from "./control.js";
import { fill, make } from "./dom.js";
import { FormField } from "./field.js";

/** @typedef {import("./schema.js").Field} Field */

export class GroupField extends Control {
  /** @param {Field} field */
  constructor(field) {
    super(field);
    this.parts = field.fields.map((part) => new FormField(part));
    fill(this, ...this.parts);
  }

  get value() {
    const sent = sentOf(this.parts);
    return Object.keys(sent).length ? sent : undefined;
  }

  set value(value) {
    for (const part of this.parts) part.control.value = (value ?? this.field.initial)?.[part.field.name];
  }

  async settled() {
    await Promise.all(this.parts.map((part) => part.control.settled()));
  }
}

export class ListField extends Control {
  /** @param {Field} field */
  constructor(field) {
    super(field);
    this.isTouched = false;
    this.items = make("div", { class: "items" });
    this.more = make("button", { type: "button", text: `Add to ${field.label}`, onclick: () => this.touch(() => this.add({})) });
    this.items.addEventListener("input", () => (this.isTouched = true));
    this.items.addEventListener("change", () => (this.isTouched = true));
    fill(this, this.items, this.more);
    this.value = undefined;
  }

  /** @param {() => void} change */
  touch(change) {
    change();
    this.isTouched = true;
    this.number();
    this.changed();
  }

  /** @param {Record<string, any>} given */
  add(given) {
    const parts = this.field.fields.map((part) => new FormField(part));
    for (const part of parts) if (given[part.field.name] !== undefined) part.control.value = given[part.field.name];
    const item = make("div", { class: "item", role: "group" }, ...parts);
    item.append(make("button", { type: "button", class: "quiet", text: "Remove", onclick: () => this.touch(() => item.remove()) }));
    this.items.append(item);
  }

  /** Says which place each item has, by which errors name it. */
  number() {
    [...this.items.children].forEach((item, at) => {
      item.setAttribute("data-prefix", `${this.field.path}.${at}.`);
      item.setAttribute("aria-label", `${this.field.label} ${at + 1}`);
    });
    this.more.hidden = this.items.children.length >= (this.field.schema.maxItems ?? Infinity);
  }

  get value() {
    if (!this.isTouched) return undefined;
    return [...this.items.children].map((item) => sentOf([...item.children].filter((part) => part instanceof FormField)));
  }

  set value(value) {
    this.isTouched = value !== undefined && value !== null;
    fill(this.items);
    for (const each of value ?? this.field.initial ?? []) this.add(each);
    this.number();
  }
}

/** @param {FormField[]} parts @returns {Record<string, any>} */
function sentOf(parts) {
  const sent = parts.map((part) => /** @type {[string, any]} */ ([part.field.name, part.control.value]));
  return Object.fromEntries(sent.filter(([, value]) => value !== undefined));
}

customElements.define("fs-group", GroupField);
customElements.define("fs-list", ListField);
