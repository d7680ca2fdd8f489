// A request in the list: what of it is told at once, and its words and picture when it is looked at.

import { fill, make } from "./dom.js";
import { isOpen, picturesOf, stateOf, wordOf } from "./record.js";
import { Refused, addressOf, ask } from "./service.js";
import { Run } from "./run.js";
import { thumbnail } from "./thumbnail.js";

/** @typedef {import("./record.js").Entry} Entry */
/** @typedef {import("./record.js").RequestRecord} RequestRecord */

/** Tells `open`, `mark`, `gone` (it is not there any more) to the list that it is in, with its id. */
export class RequestRow extends HTMLElement {
  /** @param {Entry} entry */
  constructor(entry) {
    super();
    this.entry = entry;
    this.isShown = false; // what is asked for when it is looked at
    this.small = "";
    this.role = "listitem";
    this.dataset.id = entry.request_id;
    const at = new Date(entry.created_at).toLocaleString();
    this.mark = make("input", { type: "checkbox", "aria-label": `Compare ${entry.endpoint_id} of ${at}` });
    this.mark.addEventListener("change", () => this.tell("mark"));
    this.picture = make("span", { class: "thumb" });
    this.words = make("span", { class: "words", text: "…" });
    this.state = make("span", { class: "outcome" });
    const about = make("span", { class: "about" }, make("span", { text: entry.endpoint_id }), make("time", { datetime: entry.created_at, text: at }));
    this.button = make("button", { type: "button", class: "entry", onclick: () => this.tell("open") }, this.picture, this.words, about, this.state);
    this.stop = make("button", { type: "button", class: "stop", text: "Stop", onclick: () => this.end() });
    fill(this, this.mark, this.button, this.stop);
    this.put(entry);
  }

  /** @param {"open" | "mark" | "gone"} what */
  tell(what) {
    this.dispatchEvent(new CustomEvent(what, { bubbles: true, detail: this.entry.request_id }));
  }

  /** Whether there will be more to show of it. */
  get isDone() {
    return this.isShown && !isOpen(this.entry);
  }

  /** @param {Entry} entry */
  put(entry) {
    this.entry = entry;
    this.dataset.state = stateOf(entry);
    this.state.className = `outcome ${entry.outcome ?? "open"}`;
    this.state.textContent = wordOf(entry);
    this.stop.hidden = !isOpen(entry);
  }

  /** Asks for what is not in the list; again while it is open. */
  async look() {
    if (this.isDone) return;
    try {
      await this.show(await ask(addressOf(this.entry.request_id)));
    } catch (fault) {
      if (fault instanceof Refused && fault.status === 404) this.tell("gone");
      else this.words.textContent = /** @type {Error} */ (fault).message;
    }
  }

  /** @param {RequestRecord} record */
  async show(record) {
    this.put(record);
    const { error, input, stored } = record;
    this.words.textContent = error ?? (stored ? input?.prompt || "(no prompt)" : "(not stored)");
    this.isShown = true;
    await this.paint(record);
  }

  /** @param {RequestRecord} record */
  async paint(record) {
    const pictures = picturesOf(record);
    if (!pictures.length || this.small) return;
    const small = await thumbnail(pictures[0]).catch(() => null);
    if (!small) return;
    if (this.small || !this.isConnected) return URL.revokeObjectURL(small); // painted, or left, meanwhile
    this.small = small;
    const more = pictures.length > 1 && make("span", { class: "count", text: `${pictures.length}`, title: `${pictures.length} pictures` });
    fill(this.picture, make("img", { src: this.small, alt: "" }), more);
  }

  async end() {
    this.stop.disabled = true;
    const run = new Run(this.entry.endpoint_id, {});
    run.id = this.entry.request_id;
    await run.stop();
    this.stop.disabled = false;
    if (run.fault) this.words.textContent = run.fault.message;
    else await this.look();
  }

  /** Removes it, with its small picture. */
  leave() {
    this.remove();
    if (this.small) URL.revokeObjectURL(this.small);
  }
}

/** Arrows go from row to row of a list. @param {KeyboardEvent} event @param {HTMLElement} list */
export function goByArrows(event, list) {
  const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const row = event.target instanceof Element && event.target.closest("fs-request");
  if (!by || !(row instanceof RequestRow)) return;
  event.preventDefault();
  const rows = [...list.querySelectorAll("fs-request")];
  const next = rows[rows.indexOf(row) + by];
  if (next instanceof RequestRow) next.button.focus();
}

customElements.define("fs-request", RequestRow);
