// The requests that were made, newest first.

import { fill, make } from "./dom.js";
import { ask } from "./service.js";

export class Requests extends HTMLElement {
  constructor() {
    super();
    this.list = make("ul", { class: "requests" });
    this.more = make("button", { type: "button", text: "Older ones", hidden: true, onclick: () => this.load() });
    this.cursor = "";
    fill(this, make("h1", { text: "Requests" }), this.list, this.more);
  }

  async connectedCallback() {
    await this.load();
    this.dataset.ready = "";
  }

  async load() {
    try {
      const page = await ask(`/queue/requests?limit=50${this.cursor && `&cursor=${this.cursor}`}`);
      this.list.append(...page.requests.map(row));
      this.cursor = page.cursor ?? "";
      this.more.hidden = !this.cursor;
      if (!this.list.children.length) this.list.append(make("li", { text: "Nothing was drawn yet." }));
    } catch (fault) {
      fill(this.list, make("li", { class: "error", text: /** @type {Error} */ (fault).message }));
    }
  }
}

/** @param {any} entry */
function row({ request_id: id, endpoint_id: endpoint, created_at: at, status, outcome, error }) {
  const link = make("a", { href: `/models/${endpoint}?request=${encodeURIComponent(id)}`, text: endpoint });
  const state = make("span", { class: `outcome ${outcome ?? "open"}`, text: outcome ?? status });
  return make("li", {}, link, state, make("time", { datetime: at, text: new Date(at).toLocaleString() }), error && make("span", { text: error }));
}

customElements.define("fs-requests", Requests);
