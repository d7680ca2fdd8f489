// The form of an endpoint, made from its own schema.

import { fill, make } from "./dom.js";
import { FormField } from "./field.js";
import { ImageField } from "./field-image.js";
import { sectionsOf } from "./schema.js";

/** @typedef {import("./schema.js").Field} Field */
/** @typedef {import("./service.js").Fault} Fault */

/** Tells `draw` when the person wants the picture, and `change` with every change of a field. */
export class RequestForm extends HTMLElement {
  /** @param {Field[]} fields */
  constructor(fields) {
    super();
    /** @type {FormField[]} */
    this.fields = [];
    const sections = sectionsOf(fields).map((section) => {
      const made = section.fields.map((field) => new FormField(field));
      this.fields.push(...made);
      if (!section.title) return make("div", { class: "section" }, ...made);
      const badge = make("span", { class: "badge", hidden: true });
      return make("details", { class: "section" }, make("summary", {}, section.title, badge), ...made);
    });
    this.general = make("p", { class: "error general", role: "alert", hidden: true });
    this.watch = make("input", { type: "checkbox", role: "switch" });
    this.watch.setAttribute("aria-describedby", "watch-hint");
    const hint = "Shows the picture in the making. It ends when this page is closed; otherwise it goes on without it.";
    const watching = make("label", { class: "watch", title: hint }, this.watch, "Watch it being drawn");
    this.button = make("button", { type: "submit", class: "primary", text: "Draw" });
    const reset = make("button", { type: "button", class: "quiet", text: "Reset", onclick: () => this.reset() });
    const note = make("span", { id: "watch-hint", class: "unseen", text: hint });
    const bar = make("div", { class: "bar" }, this.button, watching, note, reset);
    const form = make("form", { novalidate: true, "aria-label": "What to draw" }, ...sections, this.general, bar);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.ask();
    });
    form.addEventListener("keydown", (event) => this.enter(event));
    form.addEventListener("change", () => this.count());
    form.addEventListener("dragover", (event) => event.dataTransfer?.types.includes("Files") && event.preventDefault());
    form.addEventListener("drop", (event) => this.drop(event));
    this.addEventListener("change", () => this.querySelector("fs-image.filled") && this.assistant());
    this.addEventListener("given", (event) => {
      const { target, detail } = /** @type {CustomEvent} */ (event);
      this.offer(detail, /** @type {ImageField} */ (target));
    });
    fill(this, form);
    this.paste = this.paste.bind(this);
    /** @type {Promise<import("./assistant.js").Assistant | null> | null} */
    this.helping = null;
  }

  connectedCallback() {
    document.addEventListener("paste", this.paste);
  }

  disconnectedCallback() {
    document.removeEventListener("paste", this.paste);
  }

  /** Enter draws from the prompt; with Ctrl it draws from everywhere. @param {KeyboardEvent} event */
  enter(event) {
    if (event.key !== "Enter" || event.isComposing || event.shiftKey || !(event.target instanceof HTMLElement)) return;
    const isPrompt = event.target.closest("fs-field")?.getAttribute("data-name") === "prompt";
    if (!isPrompt && !event.ctrlKey && !event.metaKey) {
      // Enter in another field must not draw by accident
      if (event.target instanceof HTMLInputElement && !["checkbox", "radio"].includes(event.target.type)) event.preventDefault();
      return;
    }
    event.preventDefault();
    this.ask();
  }

  /** What helps with pictures; it is brought when there is one. Null where it could not be: the next call tries again. */
  assistant() {
    this.helping ??= import("./assistant.js").then(({ Assistant }) => new Assistant(this), () => (this.helping = null));
    return this.helping;
  }

  /** Offers the settings that a picture may tell. @param {File} file @param {ImageField | null} into The field that has it. */
  async offer(file, into) {
    if (await (await this.assistant())?.read(file, into)) return;
    this.general.textContent = "What reads pictures could not be loaded. Reload the page, and give the picture once more.";
    this.general.hidden = false;
  }

  /** A picture that is dropped beside the fields for one may say how it was drawn. @param {DragEvent} event */
  drop(event) {
    const file = event.dataTransfer?.files[0];
    if (!file || event.defaultPrevented) return; // a field has taken it
    event.preventDefault();
    this.offer(file, null);
  }

  ask() {
    if (!this.button.disabled) this.dispatchEvent(new CustomEvent("draw"));
  }

  /** A picture that is pasted goes to the field that has the focus, or else to the first that is empty. @param {ClipboardEvent} event */
  paste(event) {
    if (!event.clipboardData?.files.length) return;
    const shown = [...this.querySelectorAll("fs-image")].filter((each) => each instanceof ImageField && each.checkVisibility());
    const images = /** @type {ImageField[]} */ (shown);
    const target = images.find((each) => each.matches(":focus-within")) ?? images.find((each) => !each.url) ?? images[0];
    if (!target) return;
    event.preventDefault();
    target.take(event.clipboardData);
  }

  /** What is to be sent; fields that keep to their defaults are left out. @returns {Record<string, any>} */
  get value() {
    const given = this.fields.map((each) => /** @type {[string, any]} */ ([each.field.name, each.control.value]));
    return Object.fromEntries(given.filter(([, value]) => value !== undefined));
  }

  set value(value) {
    for (const each of this.fields) each.control.value = value[each.field.name];
    this.count();
  }

  async settled() {
    await Promise.all(this.fields.map((each) => each.control.settled()));
  }

  reset() {
    this.value = {};
    this.show([]);
    this.dispatchEvent(new Event("change", { bubbles: true }));
  }

  /** How many fields of each folded section differ from their defaults. */
  count() {
    for (const section of this.querySelectorAll("details.section")) {
      const inside = this.fields.filter((each) => section.contains(each) && each.control.value !== undefined);
      const badge = section.querySelector(".badge");
      if (badge instanceof HTMLElement) {
        badge.textContent = String(inside.length);
        badge.hidden = !inside.length;
      }
    }
  }

  /** Shows what is wrong at the fields that it names, and the rest above the button. @param {Fault[]} faults */
  show(faults) {
    const all = [...this.querySelectorAll("fs-field")].filter((each) => each instanceof FormField);
    const fields = /** @type {FormField[]} */ (all);
    /** @type {Map<FormField, string[]>} */
    const told = new Map();
    const rest = [];
    for (const { loc, msg } of faults) {
      const way = loc.filter((part, at) => at > 0 || part !== "body").join(".");
      const fits = fields.filter((each) => way === each.path || way.startsWith(`${each.path}.`));
      const field = fits.sort((one, other) => other.path.length - one.path.length)[0];
      if (field) told.set(field, [...(told.get(field) ?? []), msg]);
      else rest.push(way ? `${way}: ${msg}` : msg);
    }
    for (const each of fields) each.tell((told.get(each) ?? []).join(" "));
    this.general.textContent = rest.join(" ");
    this.general.hidden = !rest.length;
    const first = fields.find((each) => told.has(each));
    for (const field of told.keys()) field.closest("details")?.setAttribute("open", "");
    (first?.control.target ?? first)?.focus({ preventScroll: true });
    first?.scrollIntoView({ block: "center" });
  }
}

customElements.define("fs-form", RequestForm);
