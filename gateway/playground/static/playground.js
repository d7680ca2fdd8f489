// The page of an endpoint: the form, what is drawn of it, its code and its interface.

import { ApiTab } from "./api.js";
import { CodeTab } from "./code.js";
import { fill, make } from "./dom.js";
import { drafts } from "./drafts.js";
import { Drawing } from "./drawing.js";
import { RequestForm } from "./form.js";
import { Run } from "./run.js";
import { fieldsOf } from "./schema.js";
import { addressOf, ask, pageOf, publicOrigin } from "./service.js";
import { Tabs } from "./tabs.js";

const USUAL = "fal-ai/fooocus";

export class Playground extends HTMLElement {
  connectedCallback() {
    this.begin().catch((fault) => fill(this, make("p", { class: "error", role: "alert", text: fault.message })));
  }

  async begin() {
    this.endpoint = document.body.dataset.endpoint || USUAL;
    const [models, described] = await Promise.all([
      ask("/api/v1/models"),
      ask(`/openapi.json?endpoint_id=${this.endpoint}`),
    ]);
    const told = models.models.find((/** @type {any} */ each) => each.endpoint_id === this.endpoint);
    this.form = new RequestForm(fieldsOf(described, this.endpoint));
    this.drawing = new Drawing();
    this.code = new CodeTab();
    const api = new ApiTab(described, this.endpoint, publicOrigin());
    const tabs = new Tabs([
      ["playground", "Playground", make("div", { class: "bench" }, this.form, this.drawing)],
      ["code", "Code", this.code],
      ["api", "API", api],
    ]);
    fill(
      this,
      this.choice(models.models),
      make("div", { class: "title" }, make("h1", { text: this.endpoint }), make("p", { text: told?.metadata.description ?? "" })),
      tabs,
    );
    this.form.addEventListener("draw", () => this.draw());
    this.form.addEventListener("change", () => this.keep());
    this.form.addEventListener("input", () => this.keep());
    this.addEventListener("use", (event) => this.use(/** @type {CustomEvent} */ (event).detail));
    this.form.value = drafts.get(this.endpoint);
    this.keep();
    await this.restore();
    this.dataset.ready = "";
  }

  /** @param {any[]} models */
  choice(models) {
    const links = models.map(({ endpoint_id: id, metadata }) =>
      make("a", { href: `/models/${id}`, title: metadata.description, text: metadata.display_name, "aria-current": id === this.endpoint && "page" }),
    );
    const nav = make("nav", { class: "endpoints", "aria-label": "Endpoints" }, ...links);
    nav.addEventListener("click", (event) => {
      const href = event.target instanceof HTMLAnchorElement && event.target.getAttribute("href");
      const other = href && href.slice("/models/".length);
      // what was written here goes along, unless something is written there already
      if (other && this.form && !Object.keys(drafts.get(other)).length) drafts.handOn(other, this.form.value, {});
    });
    return nav;
  }

  /** What stands in the form, kept and as code. */
  keep() {
    const { endpoint, form, code } = this;
    if (!endpoint || !form || !code) return;
    const input = form.value;
    drafts.put(endpoint, input);
    code.show({ service: publicOrigin(), endpoint, input, keys: document.body.dataset.keys === "required" });
  }

  async draw() {
    const { endpoint, form } = this;
    if (!endpoint || !form) return;
    form.show([]);
    form.button.disabled = true;
    await form.settled();
    const run = new Run(endpoint, form.value);
    this.follow(run);
    run.start(form.watch.checked);
  }

  /** @param {Run} run */
  follow(run) {
    const { endpoint, form, drawing } = this;
    if (!endpoint || !form || !drawing) return;
    run.addEventListener("change", () => {
      if (drawing.run !== run) return; // another one has taken its place
      form.button.disabled = run.state === "sending"; // more can be asked for while it waits
      if (run.id) history.replaceState(null, "", pageOf(endpoint, run.id) + location.hash);
      if (run.state === "failed" && run.fault?.faults.length) form.show(run.fault.faults);
    });
    drawing.show(run);
    if (innerWidth < 900) drawing.scrollIntoView({ block: "start" });
  }

  /** Finds the request again that the address names. */
  async restore() {
    const id = new URLSearchParams(location.search).get("request");
    if (!id || !this.endpoint || !this.form) return;
    const record = await ask(addressOf(id)).catch(() => null);
    const run = new Run(this.endpoint, record?.input ?? {});
    if (record) run.begunAt = Date.parse(record.created_at);
    if (record?.finished_at) run.endedAt = Date.parse(record.finished_at);
    if (record?.input && !Object.keys(this.form.value).length) this.form.value = record.input;
    this.follow(run);
    run.resume(id);
  }

  /** @param {{endpoint: string, input: Record<string, any>}} wanted */
  use({ endpoint, input }) {
    drafts.handOn(endpoint, this.form?.value ?? {}, input);
    location.assign(`/models/${endpoint}`);
  }
}

customElements.define("fs-playground", Playground);
