// All that is known of a request, and what can be done with it.

import { fill, make, spelled } from "./dom.js";
import { facts, legible, stages } from "./facts.js";
import { Pictures } from "./pictures.js";
import { isOpen, picturesOf, remix, sendable, textsOf, timesOf, use, wordOf } from "./record.js";
import { RequestDeletion } from "./request-deletion.js";
import { Refused, addressOf, ask, pageOf } from "./service.js";

/** @typedef {import("./record.js").RequestRecord} RequestRecord */
/** @typedef {import("./request-row.js").RequestRow} RequestRow */

const AGAIN_MS = 2000;

export class RequestDetails extends HTMLElement {
  constructor() {
    super();
    /** @type {RequestRow | null} */
    this.row = null;
    /** @type {RequestRecord | null} */
    this.record = null;
    this.timer = 0;
    this.asking = new AbortController();
    const button = (/** @type {string} */ text, /** @type {() => any} */ onclick) => make("button", { type: "button", text, onclick });
    this.heading = make("h2", { id: "details-title" });
    this.said = make("p", { role: "status" });
    const close = button("Close", () => this.dialog.close());
    const part = (/** @type {string} */ text, /** @type {"all" | "prompt" | "seed"} */ which) =>
      button(text, () => this.record && remix(this.record, which));
    this.remix = make("div", { class: "bar", role: "group", "aria-label": "Remix" },
      part("Remix all", "all"), part("Prompt only", "prompt"), part("Seed only", "seed"));
    this.link = make("a", { class: "button", text: "Open in the playground" });
    this.stop = button("Stop", () => this.end());
    this.stop.className = "stop";
    this.deleting = button("Delete …", () => this.record && this.deletion.ask(this.record));
    this.deleting.className = "stop";
    this.deletion = new RequestDeletion();
    this.deletion.addEventListener("deleted", (event) => this.leave(/** @type {CustomEvent} */ (event).detail));
    this.pictures = new Pictures();
    this.pictures.addEventListener("use", (event) => {
      event.stopPropagation();
      if (this.record) use(this.record, /** @type {CustomEvent} */ (event).detail);
    });
    this.fault = make("p", { class: "error", role: "alert", hidden: true });
    this.told = make("div", { class: "told" });
    this.dialog = make("dialog", { class: "details", "aria-labelledby": "details-title" },
      make("div", { class: "head" }, make("div", {}, this.heading, this.said), close),
      make("div", { class: "bar" }, this.remix, this.link, this.stop, this.deleting),
      this.fault,
      make("div", { class: "beside" }, this.pictures, this.told));
    this.dialog.addEventListener("click", ({ target }) => target === this.dialog && this.dialog.close());
    fill(this, this.dialog, this.deletion);
  }

  /** @param {RequestRow} row */
  async open(row) {
    this.row = row;
    this.record = null;
    this.heading.textContent = row.entry.endpoint_id;
    this.said.textContent = "";
    this.pictures.show([]);
    fill(this.told);
    this.remix.hidden = this.stop.hidden = this.deleting.hidden = this.fault.hidden = true;
    this.link.href = pageOf(row.entry.endpoint_id, row.entry.request_id);
    this.dialog.showModal();
    await this.load();
  }

  /** Asks for it, and again until it has ended or another one is shown. */
  async load() {
    clearTimeout(this.timer);
    this.asking.abort();
    const { row } = this;
    if (!row || !this.dialog.open) return;
    const { signal } = (this.asking = new AbortController());
    let isOver = false;
    try {
      /** @type {RequestRecord} */
      const record = await ask(addressOf(row.entry.request_id), { signal });
      if (signal.aborted) return;
      if (this.record?.status !== record.status || this.record.logs.length !== record.logs.length) this.show(record);
      row.show(record);
      this.fault.hidden = true;
      isOver = !isOpen(record);
    } catch (fault) {
      if (signal.aborted) return;
      this.fault.textContent = /** @type {Error} */ (fault).message;
      this.fault.hidden = false;
      isOver = !(fault instanceof Refused && fault.passes);
    }
    if (!isOver) this.timer = setTimeout(() => this.load(), AGAIN_MS);
  }

  /** @param {RequestRecord} record */
  show(record) {
    this.record = record;
    this.said.textContent = `${wordOf(record)}, ${new Date(record.created_at).toLocaleString()}`;
    this.remix.hidden = !record.stored;
    this.stop.hidden = !isOpen(record);
    this.deleting.hidden = isOpen(record);
    const pictures = picturesOf(record);
    if (this.pictures.dataset.count !== String(pictures.length)) this.pictures.show(pictures, record.output?.has_nsfw_concepts);
    fill(this.told, fault(record), ...texts(record), ...settings(record), ...about(record), ...log(record));
  }

  async end() {
    this.stop.disabled = true;
    await this.row?.end();
    this.stop.disabled = false;
    await this.load();
  }

  /** It is deleted: its row goes, and the next one has the focus unless another request is shown by now. @param {string} id */
  leave(id) {
    const { row } = this;
    const isShown = this.dialog.open && row?.entry.request_id === id;
    const next = row?.nextElementSibling ?? row?.previousElementSibling;
    if (isShown) this.dialog.close();
    this.dispatchEvent(new CustomEvent("gone", { bubbles: true, detail: id }));
    if (isShown) next?.querySelector("button")?.focus();
  }
}

/** @param {string} title @param {[string, any][]} pairs @returns {HTMLElement[]} */
function pairs(title, pairs) {
  const items = facts(pairs);
  return items.length ? [make("h3", { text: title }), make("dl", { class: "facts" }, ...items)] : [];
}

/** What went wrong, in full. @param {RequestRecord} record */
function fault({ outcome, error, error_type: type, output }) {
  if (outcome !== "error") return null;
  const said = make("p", { class: "error", text: [type, error].filter(Boolean).join(": ") || "It failed." });
  const body = output && make("pre", { tabindex: "0", "aria-label": "The answer" }, make("code", { text: legible(output) }));
  return make("div", { class: "fault" }, said, body);
}

/** @param {RequestRecord} record */
function texts(record) {
  return pairs("As it was drawn", textsOf(record));
}

/** @param {RequestRecord} record @returns {HTMLElement[]} */
function settings(record) {
  const { stored, input, inactive, outcome, output } = record;
  if (!stored) return [make("p", { class: "hint", text: "Its input and output were not to be stored." })];
  const isWhole = legible(sendable(input)) === legible(input);
  const notes = [
    !isWhole && "Pictures that came inside the request are not kept; a remix goes without them.",
    outcome === "ok" && !output && "Its pictures were inside the answer, and are not kept.",
  ];
  const sent = /** @type {[string, any][]} */ (Object.entries(input ?? {}));
  return [
    ...pairs("Settings that were sent", [...sent, ["Without effect", inactive.join(", ")]]),
    ...notes.filter((text) => text !== false).map((text) => make("p", { class: "hint", text })),
  ];
}

/** @param {RequestRecord} record */
function about(record) {
  const { waiting, drawing } = timesOf(record);
  return pairs("About it", [
    ["Seed", record.seeds.length ? record.seeds.join(", ") : null],
    ["Waited", waiting === null ? null : spelled(waiting)],
    ["Drawn in", drawing === null ? null : spelled(drawing)],
    ["Stages", stages(record.outcome === "ok" ? record.output?.timings : null)],
    ["Request", record.request_id],
  ]);
}

/** @param {RequestRecord} record */
function log({ logs }) {
  const lines = logs.map(({ message, level }) => make("li", { class: level.toLowerCase(), text: message }));
  return lines.length ? [make("h3", { text: "Log" }), make("ol", { class: "log", tabindex: "0", "aria-label": "Log" }, ...lines)] : [];
}

customElements.define("fs-request-details", RequestDetails);
