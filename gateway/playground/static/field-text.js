// Text of one line or several, words of a list, and whole numbers of any length, with dice for a seed.

import { Control } from "./control.js";
import { fill, make } from "./dom.js";
import { same } from "./json.js";

/** @typedef {import("./schema.js").Field} Field */

export class TextField extends Control {
  /** @param {Field} field */
  constructor(field) {
    super(field);
    const limit = { maxlength: field.schema.maxLength, spellcheck: "false", autocomplete: "off" };
    this.input =
      field.kind === "text"
        ? make("textarea", { ...limit, rows: field.name === "prompt" ? 3 : 2, placeholder: placeholder(field) })
        : make("input", { ...limit, type: "text", placeholder: placeholder(field), inputmode: whole(field) && "numeric" });
    fill(this, this.input);
    if (field.name !== "seed") return;
    const again = make("button", { type: "button", class: "quiet", title: "A random seed each time", text: "Random" });
    again.addEventListener("click", () => {
      this.input.value = "";
      this.changed();
    });
    this.append(again);
  }

  get target() {
    return this.input;
  }

  get value() {
    const text = this.input.value;
    if (text === shown(this.field.initial)) return undefined;
    if (text === "" && (this.field.required || this.field.nullable)) return undefined;
    if (this.field.kind === "words") {
      const words = text.split(/[\s,]+/).filter(Boolean);
      return same(words, this.field.initial) ? undefined : words;
    }
    // what is no number is for the service to refuse, in its own words
    if (this.field.kind === "number") return text.trim() === "" || Number.isNaN(Number(text)) ? text : Number(text);
    if (whole(this.field) && /^\s*-?\d+\s*$/.test(text)) return exact(text.trim());
    return text;
  }

  set value(value) {
    this.input.value = shown(value === undefined ? this.field.initial : value);
  }

  connectedCallback() {
    if (!this.input.value) this.value = undefined;
  }
}

/** @param {Field} field */
function whole(field) {
  return field.kind === "whole";
}

/** @param {string} digits */
function exact(digits) {
  return Number.isSafeInteger(Number(digits)) ? Number(digits) : BigInt(digits);
}

/** @param {any} value */
function shown(value) {
  if (value === null || value === undefined) return "";
  return Array.isArray(value) ? value.join(" ") : String(value);
}

/** @param {Field} field */
function placeholder(field) {
  if (field.name === "prompt") return "What should be drawn? Enter draws it.";
  if (field.name === "seed") return "Random";
  return field.schema.examples?.[0] ?? "";
}

customElements.define("fs-text", TextField);
