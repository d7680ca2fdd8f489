// Asks whether a request is to be deleted with its pictures, and deletes it.

import { fill, make } from "./dom.js";
import { picturesOf } from "./record.js";
import { addressOf, call } from "./service.js";

/** @typedef {import("./record.js").RequestRecord} RequestRecord */

/** Tells `deleted`, with its id, when it is gone. */
export class RequestDeletion extends HTMLElement {
  constructor() {
    super();
    this.request = "";
    this.said = make("p");
    this.fault = make("p", { class: "error", role: "alert" });
    this.yes = make("button", { type: "button", class: "primary", text: "Delete", onclick: () => this.go() });
    const no = make("button", { type: "button", text: "Keep it", onclick: () => this.dialog.close() });
    const title = make("h2", { id: "deletion-title", text: "Delete this request?" });
    this.dialog = make("dialog", { class: "deletion", "aria-labelledby": title.id }, title, this.said, this.fault, make("div", { class: "bar" }, no, this.yes));
    fill(this, this.dialog);
  }

  /** @param {RequestRecord} record */
  ask(record) {
    this.request = record.request_id;
    const { length } = picturesOf(record);
    const pictures = length ? ` and its ${length === 1 ? "picture" : `${length} pictures`}` : "";
    this.said.textContent = `It${pictures} and the files that were sent with it are removed from the service for good. Addresses of them lead nowhere then.`;
    this.fault.textContent = "";
    this.yes.disabled = false;
    this.dialog.showModal();
  }

  async go() {
    const { request } = this; // another one may be asked about until the answer comes
    this.yes.disabled = true;
    try {
      await call(addressOf(request), { method: "DELETE" });
      if (this.request === request) this.dialog.close();
      this.dispatchEvent(new CustomEvent("deleted", { detail: request }));
    } catch (fault) {
      if (this.request === request) this.fault.textContent = /** @type {Error} */ (fault).message;
    }
    if (this.request === request) this.yes.disabled = false;
  }
}

customElements.define("fs-request-deletion", RequestDeletion);
