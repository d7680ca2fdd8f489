// A field of the form: label, control, what it means, and what the service says is wrong with it.

import { Control } from "./control.js";
import { fill, make, uniqueId } from "./dom.js";
import { ChoiceField, SwitchField } from "./field-choice.js";
import { ChoicesField } from "./field-choices.js";
import { ImageField } from "./field-image.js";
import { GroupField, ListField } from "./field-parts.js";
import { RangeField } from "./field-range.js";
import { SizeField } from "./field-size.js";
import { TextField } from "./field-text.js";

/** @typedef {import("./schema.js").Field} Field */

/** @param {Field} field @returns {Control} */
function controlOf(field) {
  switch (field.kind) {
    case "switch":
      return new SwitchField(field);
    case "choice":
      return new ChoiceField(field);
    case "choices":
      return new ChoicesField(field);
    case "range":
      return new RangeField(field);
    case "size":
    case "aspect":
      return new SizeField(field);
    case "image":
      return new ImageField(field);
    case "group":
      return new GroupField(field);
    case "list":
      return new ListField(field);
    default:
      return new TextField(field);
  }
}

export class FormField extends HTMLElement {
  /** @param {Field} field */
  constructor(field) {
    super();
    this.field = field;
    this.control = controlOf(field);
    const [named, hint, wrong] = [uniqueId(), uniqueId(), uniqueId()];
    const required = field.required && make("span", { class: "required", text: "required" });
    const { target } = this.control;
    if (target) target.id = uniqueId();
    const label = make(target ? "label" : "span", { id: named, class: "label", for: target?.id }, field.label, required);
    this.error = make("p", { id: wrong, class: "error", hidden: true });
    fill(this, label, this.control, make("p", { id: hint, class: "hint", text: field.description }), this.error);
    this.className = `kind-${field.kind}`;
    const described = target ?? this.control;
    if (!target) {
      this.control.setAttribute("role", "group");
      this.control.setAttribute("aria-labelledby", named);
    }
    described.setAttribute("aria-describedby", `${hint} ${wrong}`);
    if (field.required && target) target.setAttribute("aria-required", "true");
    this.dataset.name = field.name;
  }

  /** The way to it from the body, as errors name it. */
  get path() {
    const item = this.closest("[data-prefix]");
    return (item?.getAttribute("data-prefix") ?? "") + this.field.path;
  }

  /** @param {string} text "" for none. */
  tell(text) {
    this.error.textContent = text;
    this.error.hidden = !text;
    this.classList.toggle("wrong", Boolean(text));
    const { target } = this.control;
    if (text) target?.setAttribute("aria-invalid", "true");
    else target?.removeAttribute("aria-invalid");
  }
}

customElements.define("fs-field", FormField);
