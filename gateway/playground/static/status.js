// What runs here, for who operates it.

import { fill, make } from "./dom.js";
import { ask } from "./service.js";

export class ServiceStatus extends HTMLElement {
  async connectedCallback() {
    fill(this, make("h1", { text: "Status" }), await this.ready());
    this.dataset.ready = "";
  }

  async ready() {
    try {
      const { waiting, replicas, capacity, family } = await ask("/ready", { quiet: true });
      const facts = [["Service", "ready"], ["Requests that wait", waiting], ["Replicas that draw", replicas],
        ["Rows at once", capacity], ["Model family", family?.name]];
      const shown = facts.filter(([, value]) => value !== undefined);
      return make("dl", { class: "facts" }, ...shown.flatMap(([name, value]) => [make("dt", { text: name }), make("dd", { text: String(value) })]));
    } catch (fault) {
      return make("p", { class: "error", role: "alert", text: /** @type {Error} */ (fault).message });
    }
  }
}

customElements.define("fs-status", ServiceStatus);
