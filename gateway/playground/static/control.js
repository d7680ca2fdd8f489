// What all controls of a form share: a field, a value, and that a change is told.

/** @typedef {import("./schema.js").Field} Field */

/** The control of one field. Its value is undefined where the field keeps to its default and need not be sent. */
export class Control extends HTMLElement {
  /** @param {Field} field */
  constructor(field) {
    super();
    this.field = field;
  }

  /** The element that a label names; without one the control is a group. @returns {HTMLElement | null} */
  get target() {
    return null;
  }

  /** @returns {any} */
  get value() {
    return undefined;
  }

  /** @param {any} _ Undefined means the default. */
  set value(_) {
    throw new Error("a control must take values");
  }

  /** Resolves when nothing of the value is still on its way. */
  async settled() {}

  changed() {
    this.dispatchEvent(new Event("change", { bubbles: true }));
  }
}
