// Which requests are listed. It stands in the address, so that it survives a reload and can be gone back to.

import { fill, make, uniqueId } from "./dom.js";
import { ask } from "./service.js";

const NAMES = ["endpoint_id", "status", "outcome", "key"];
/** What is chosen of a request's states: a title, and the part of the query that asks for it. */
const STATES = [
  ["All", ""], ["Waiting", "status=IN_QUEUE"], ["Drawing", "status=IN_PROGRESS"],
  ["Drawn", "outcome=ok"], ["Failed", "outcome=error"], ["Stopped", "outcome=cancelled"],
];

/** Tells `filter` when others are to be listed. */
export class RequestFilter extends HTMLElement {
  constructor() {
    super();
    this.endpoint = make("select", { id: uniqueId() });
    this.state = make("select", { id: uniqueId() });
    fill(this.state, ...STATES.map(([title, value]) => make("option", { value, text: title })));
    fill(this, make("label", { for: this.endpoint.id, text: "Endpoint" }), this.endpoint, make("label", { for: this.state.id, text: "State" }), this.state);
    this.addEventListener("change", () => this.choose());
    this.gone = this.gone.bind(this);
    this.offer([]);
    this.query = this.read();
  }

  async connectedCallback() {
    window.addEventListener("popstate", this.gone);
    const { models } = await ask("/api/v1/models", { quiet: true }).catch(() => ({ models: [] }));
    this.offer(models.map((/** @type {any} */ each) => each.endpoint_id));
  }

  disconnectedCallback() {
    window.removeEventListener("popstate", this.gone);
  }

  /** @param {string[]} endpoints */
  offer(endpoints) {
    const chosen = new URLSearchParams(location.search).get("endpoint_id") ?? "";
    const all = new Set(["", ...endpoints, chosen]);
    fill(this.endpoint, ...[...all].map((each) => make("option", { value: each, text: each || "All" })));
    this.endpoint.value = chosen;
  }

  /** What the address asks for, which the controls then show. */
  read() {
    const asked = new URLSearchParams(location.search);
    const known = NAMES.filter((name) => asked.has(name)).map((name) => /** @type {[string, string]} */ ([name, asked.get(name) ?? ""]));
    this.endpoint.value = asked.get("endpoint_id") ?? "";
    const state = known.filter(([name]) => name === "status" || name === "outcome");
    this.state.value = String(new URLSearchParams(state));
    return String(new URLSearchParams(known));
  }

  choose() {
    const asked = new URLSearchParams(this.state.value);
    if (this.endpoint.value) asked.set("endpoint_id", this.endpoint.value);
    const key = new URLSearchParams(location.search).get("key");
    if (key) asked.set("key", key);
    history.pushState(null, "", asked.size ? `?${asked}` : location.pathname);
    this.gone();
  }

  gone() {
    const query = this.read();
    if (query === this.query) return; // only what stands behind the # has changed
    this.query = query;
    this.dispatchEvent(new Event("filter"));
  }
}

customElements.define("fs-request-filter", RequestFilter);
