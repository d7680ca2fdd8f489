// Settings that a picture tells, offered and put into a form.

import { fill, make } from "./dom.js";
import { SIDE } from "./field-size.js";

/** @typedef {import("./field.js").FormField} FormField */
/** @typedef {import("./form.js").RequestForm} RequestForm */

/** Offers to take over how a picture says it was drawn. */
export class FoundSettings extends HTMLElement {
  /** @param {RequestForm} form @param {string} name Of the file. @param {Record<string, any> | null} told */
  constructor(form, name, told) {
    super();
    const said = make("p", { class: "hint", role: "status" });
    const drop = make("button", { type: "button", class: "quiet", text: "Dismiss", onclick: () => this.remove() });
    if (!told) {
      said.textContent = `${name} does not say how it was drawn.`;
      fill(this, said, drop);
      return;
    }
    const prompt = String(told.prompt ?? "");
    said.textContent = `${name} says how it was drawn: “${prompt.length > 80 ? `${prompt.slice(0, 80)}…` : prompt}”, seed ${told.seed}.`;
    const take = make("button", { type: "button", text: "Take its settings" });
    take.addEventListener("click", () => {
      const { input, left } = fitting(told, form.fields);
      form.value = { ...form.value, ...input };
      form.dispatchEvent(new Event("change", { bubbles: true }));
      const rest = left.length ? ` Not taken, for it is not known here: ${left.join(", ")}.` : "";
      said.textContent = `Taken: ${Object.keys(input).join(", ")}.${rest}`;
      take.remove();
    });
    fill(this, said, take, drop);
  }
}

/** What of it the fields of a form can have. left: what they cannot. @param {Record<string, any>} told
 * @param {FormField[]} fields @returns {{input: Record<string, any>, left: string[]}} */
function fitting({ size, steps, ...told }, fields) {
  const [width, height] = size ?? [];
  /** @type {Record<string, any>} */
  const all = { ...told, num_inference_steps: steps, aspect_ratio: size && `${width}x${height}`, image_size: size && { width, height } };
  /** @type {Record<string, any>} */
  const input = {};
  /** @type {string[]} */
  const left = [];
  for (const { field } of fields) {
    const value = all[field.name];
    if (value === undefined) continue;
    const { minimum = -Infinity, maximum = Infinity } = field.schema;
    const isSize = field.name === "aspect_ratio" || field.name === "image_size";
    if (field.kind === "choices") {
      input[field.name] = value.filter((/** @type {string} */ each) => field.options.includes(each));
      left.push(...value.filter((/** @type {string} */ each) => !field.options.includes(each)));
    } else if (field.name === "loras") {
      input.loras = value.filter((/** @type {any} */ { path }) => path !== "lora"); // which came by an address that is not told
      if (input.loras.length < value.length) left.push("a LoRA of an address of its own");
    } else if (field.name === "refiner_model") {
      input.refiner_model = value === "None" ? value : field.options.find((each) => each !== "None"); // the one that there is
    } else if (field.kind === "choice" && !field.options.includes(value)) left.push(String(value));
    else if (field.kind === "range" && !(value >= minimum && value <= maximum)) left.push(`${field.label} ${value}`);
    else if (isSize && ![width, height].every((side) => side % SIDE.step === 0 && side >= SIDE.min && side <= SIDE.max)) left.push(`${width} × ${height}`);
    else input[field.name] = value;
  }
  return { input, left };
}

customElements.define("fs-found", FoundSettings);
