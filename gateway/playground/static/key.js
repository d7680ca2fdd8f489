// Where a key is entered, once for as long as the tab lives. It stays in the tab's own storage and is sent as a header.

import { fill, make, uniqueId } from "./dom.js";
import { asking, call, key } from "./service.js";

export const ADDRESS = "#key";

export class KeyDialog extends HTMLElement {
  constructor() {
    super();
    /** @type {((entered: boolean) => void)[]} */
    this.waiting = [];
    const id = uniqueId();
    this.input = make("input", { id, type: "password", autocomplete: "off", spellcheck: "false", required: true, placeholder: "id:secret" });
    this.error = make("p", { class: "error", role: "alert" });
    const forget = make("button", { type: "button", text: "Forget it", onclick: () => this.forget() });
    const cancel = make("button", { type: "button", text: "Not now", onclick: () => this.dialog.close() });
    const form = make(
      "form", {},
      make("h2", { id: `${id}-title`, text: "Your API key" }),
      make("p", { text: "This service draws for holders of a key. Its operator makes one with:" }),
      make("pre", { tabindex: "0" }, make("code", { text: "python -m gateway.keys create NAME" })),
      make("label", { for: id, text: "Key" }), this.input, this.error,
      make("p", { class: "hint", text: "It stays in this tab until that is closed, is sent as a header, and never stands in an address." }),
      make("div", { class: "bar" }, make("button", { type: "submit", class: "primary", text: "Use this key" }), cancel, forget),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.use();
    });
    this.dialog = make("dialog", { class: "key", "aria-labelledby": `${id}-title` }, form);
    this.dialog.addEventListener("close", () => this.answer(false));
    fill(this, this.dialog);
  }

  connectedCallback() {
    asking.key = () => this.ask();
    window.addEventListener("hashchange", () => this.look());
    queueMicrotask(() => this.look());
  }

  look() {
    if (location.hash === ADDRESS && !this.dialog.open) this.dialog.showModal();
  }

  /** Asks for a key, once for all that wait for it. @returns {Promise<boolean>} */
  ask() {
    this.error.textContent = key.get() ? "The service does not take this key." : "";
    if (!this.dialog.open) {
      history.replaceState(null, "", ADDRESS);
      this.dialog.showModal();
    }
    return new Promise((resolve) => this.waiting.push(resolve));
  }

  async use() {
    const before = key.get();
    key.set(this.input.value.trim());
    try {
      await call("/queue/requests?limit=1", { quiet: true });
    } catch (fault) {
      const { status, message } = /** @type {import("./service.js").Refused} */ (fault);
      if (status === 401) {
        key.set(before);
        this.error.textContent = message;
        return;
      }
    }
    this.input.value = "";
    this.answer(true);
    this.dialog.close();
    window.dispatchEvent(new Event("key"));
  }

  forget() {
    key.set("");
    this.dialog.close();
    window.dispatchEvent(new Event("key"));
  }

  /** @param {boolean} entered */
  answer(entered) {
    for (const resolve of this.waiting.splice(0)) resolve(entered);
    if (location.hash === ADDRESS) history.replaceState(null, "", location.pathname + location.search);
  }
}

customElements.define("fs-key", KeyDialog);
