// A size: a preset by its shape, or width and height. Also `WIDTHxHEIGHT` as a text.

import { Control } from "./control.js";
import { fill, make, uniqueId } from "./dom.js";
import { same } from "./json.js";

/** @typedef {import("./schema.js").Field} Field */
/** @typedef {{value: string, label: string, width: number, height: number}} Shape */

// sizes of presets are the service's to know; these are their shapes
/** @type {Record<string, [number, number]>} */
const SHAPES = {
  square_hd: [1, 1], square: [1, 1],
  portrait_4_3: [3, 4], portrait_16_9: [9, 16], landscape_4_3: [4, 3], landscape_16_9: [16, 9],
};
const SIZES = ["1024x1024", "1152x896", "1216x832", "1344x768", "896x1152", "832x1216", "768x1344", "512x512"];
const OWN = "own";
export const SIDE = { min: 64, max: 2048, step: 8 }; // what can be drawn, in pixels

export class SizeField extends Control {
  /** @param {Field} field */
  constructor(field) {
    super(field);
    this.width = make("input", { ...SIDE, type: "number", value: 1024, "aria-label": "Width in pixels" });
    this.height = make("input", { ...SIDE, type: "number", value: 1024, "aria-label": "Height in pixels" });
    const name = uniqueId();
    const shapes = field.kind === "aspect" ? SIZES.map(ofText) : field.options.map(ofPreset);
    const unset = field.initial === null ? [{ value: "", label: "As the image", width: 0, height: 0 }] : [];
    const all = [...unset, ...shapes, { value: OWN, label: "Own size", width: 0, height: 0 }];
    /** @type {HTMLInputElement[]} */
    this.radios = all.map(({ value }) => make("input", { type: "radio", name, value }));
    const buttons = all.map((shape, at) => make("label", {}, this.radios[at], outline(shape), make("span", { text: shape.label })));
    this.sides = make("div", { class: "sides" }, this.width, "×", this.height);
    this.addEventListener("change", () => this.draw());
    fill(this, make("div", { class: "segments shapes" }, ...buttons), this.sides);
    this.value = undefined;
  }

  get chosen() {
    return this.radios.find((radio) => radio.checked)?.value ?? "";
  }

  draw() {
    this.sides.hidden = this.chosen !== OWN;
  }

  get value() {
    const chosen = this.chosen;
    if (chosen === "" || chosen === this.field.initial) return undefined;
    if (chosen !== OWN) return chosen;
    const [width, height] = [Number(this.width.value), Number(this.height.value)];
    const own = this.field.kind === "aspect" ? `${width}x${height}` : { width, height };
    return same(own, this.field.initial) ? undefined : own;
  }

  set value(value) {
    const given = value ?? this.field.initial ?? "";
    const radio = this.radios.find((each) => each.value === given) ?? this.radios[this.radios.length - 1];
    radio.checked = true;
    if (radio.value === OWN) {
      const [width, height] = typeof given === "string" ? given.split(/[x*×]/i) : [given.width, given.height];
      this.width.value = width ?? "";
      this.height.value = height ?? "";
    }
    this.draw();
  }
}

/** @param {string} text @returns {Shape} */
function ofText(text) {
  const [width, height] = text.split("x").map(Number);
  return { value: text, label: `${width} × ${height}`, width, height };
}

/** @param {string} name @returns {Shape} */
function ofPreset(name) {
  const [width, height] = SHAPES[name] ?? [1, 1];
  const [kind, ...ratio] = name.split("_");
  const label = `${kind.charAt(0).toUpperCase()}${kind.slice(1)} ${ratio.join(":").replace("hd", "HD")}`;
  return { value: name, label: label.trim(), width, height };
}

/** @param {Shape} shape */
function outline({ width, height }) {
  if (!width) return null;
  const drawn = make("i", { "aria-hidden": "true" });
  const scale = 18 / Math.max(width, height);
  drawn.style.width = `${Math.round(width * scale)}px`;
  drawn.style.height = `${Math.round(height * scale)}px`;
  return drawn;
}

customElements.define("fs-size", SizeField);
