// The tab with the code of the request that stands in the form.

import { copy, fill, make } from "./dom.js";
import { LANGUAGES } from "./snippets.js";

/** @typedef {import("./snippets.js").Asked} Asked */

export class CodeTab extends HTMLElement {
  constructor() {
    super();
    this.language = 0;
    /** @type {Asked | null} */
    this.asked = null;
    this.code = make("code");
    this.choices = LANGUAGES.map(([name], at) =>
      make("button", { type: "button", text: name, "aria-pressed": "false", onclick: () => this.choose(at) }),
    );
    const button = make("button", { type: "button", class: "copy", text: "Copy", onclick: () => copy(this.code.textContent ?? "", button) });
    const bar = make("div", { class: "languages", role: "group", "aria-label": "Language" }, ...this.choices, button);
    const said = make("p", { class: "hint", text: "The request as it stands in the form. Fields that keep to their defaults are left out." });
    fill(this, said, bar, make("pre", { tabindex: "0", "aria-label": "Code" }, this.code));
  }

  /** @param {number} at */
  choose(at) {
    this.language = at;
    if (this.asked) this.show(this.asked);
  }

  /** @param {Asked} asked */
  show(asked) {
    this.asked = asked;
    this.choices.forEach((choice, at) => choice.setAttribute("aria-pressed", String(at === this.language)));
    this.code.textContent = LANGUAGES[this.language][1](asked);
  }
}

customElements.define("fs-code", CodeTab);
