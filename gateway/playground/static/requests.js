// The history: the requests that were made, newest first, page by page as one scrolls.

import { fill, make } from "./dom.js";
import { Few } from "./few.js";
import { isOpen } from "./record.js";
import { RequestFilter } from "./request-filter.js";
import { RequestMarks } from "./request-marks.js";
import { goByArrows, RequestRow } from "./request-row.js";
import { ask } from "./service.js";

/** @typedef {import("./record.js").Entry} Entry */

const FIRST = 50; // requests of the first page
const PAGE = 100; // of those after it
const AT_ONCE = 4; // records and pictures that are asked for
const AGAIN_MS = 2000; // how often what waits or is drawn is asked for
const AHEAD = "1500px 0px"; // how far above the end the next page is asked for
const NEAR = "300px 0px"; // how far from the view a row is filled

export class Requests extends HTMLElement {
  constructor() {
    super();
    this.filter = new RequestFilter();
    this.marks = new RequestMarks();
    this.few = new Few(AT_ONCE);
    /** @type {Map<string, RequestRow>} */
    this.rows = new Map();
    /** @type {Set<RequestRow>} */
    this.near = new Set();
    this.cursor = "";
    this.isLoading = false;
    this.timer = 0;
    this.leaving = new AbortController();
    /** @type {import("./request-details.js").RequestDetails | null} */
    this.details = null;
    this.list = make("div", { class: "requests", role: "list", "aria-label": "Requests" });
    this.said = make("p", { class: "hint", role: "status" });
    this.fault = make("p", { class: "error", role: "alert", hidden: true });
    this.more = make("button", { type: "button", text: "Older ones", hidden: true, onclick: () => this.load() });
    fill(this, make("div", { class: "title" }, make("h1", { text: "Requests" }), this.filter), this.said, this.list, this.fault, this.more, this.marks);
    this.end = new IntersectionObserver((seen) => seen.at(-1)?.isIntersecting && this.load(), { rootMargin: AHEAD });
    this.looking = new IntersectionObserver((seen) => this.look(seen), { rootMargin: NEAR });
    this.filter.addEventListener("filter", () => this.begin());
    this.marks.addEventListener("marks", () => this.rows.forEach((row, id) => (row.mark.checked = this.marks.marked.has(id))));
    this.addEventListener("mark", ({ target }) => target instanceof RequestRow && this.marks.put(target.entry.request_id, target.mark.checked));
    this.addEventListener("open", ({ target }) => target instanceof RequestRow && this.open(target));
    this.addEventListener("gone", (event) => this.lose(/** @type {CustomEvent} */ (event).detail));
    this.list.addEventListener("keydown", (event) => goByArrows(event, this.list));
    this.anew = () => (this.marks.clear(), this.begin()); // another key may not see what is marked
    this.seen = () => document.visibilityState === "visible" && this.refresh();
  }

  async connectedCallback() {
    document.addEventListener("visibilitychange", this.seen);
    window.addEventListener("key", this.anew);
    this.timer = setInterval(() => this.follow(), AGAIN_MS);
    await this.begin();
    this.dataset.ready = "";
  }

  disconnectedCallback() {
    document.removeEventListener("visibilitychange", this.seen);
    window.removeEventListener("key", this.anew);
    clearInterval(this.timer);
  }

  /** Lists from the newest on, what the filter lets through. */
  async begin() {
    this.leaving.abort();
    this.leaving = new AbortController();
    this.looking.disconnect();
    for (const row of this.rows.values()) this.drop(row);
    fill(this.list);
    this.cursor = "";
    this.isLoading = false;
    await this.load();
  }

  /** The page after those that are there. */
  async load() {
    if (this.isLoading) return;
    this.isLoading = true;
    this.end.unobserve(this.more);
    const { signal } = this.leaving;
    try {
      const { requests, cursor } = await this.page(this.cursor, signal);
      if (signal.aborted) return;
      this.list.append(...this.chunk(requests));
      this.cursor = cursor ?? "";
      this.more.hidden = !cursor;
      this.fault.hidden = true;
      this.count();
      this.end.observe(this.more); // tells at once whether it is still in view
    } catch (fault) {
      if (signal.aborted) return;
      this.fault.textContent = /** @type {Error} */ (fault).message;
      this.fault.hidden = this.more.hidden = false; // the button tries again
    }
    this.isLoading = false;
  }

  /** @param {string} cursor @param {AbortSignal} signal @returns {Promise<{requests: Entry[], cursor: string | null}>} */
  page(cursor, signal) {
    const asked = new URLSearchParams(this.filter.query);
    asked.set("limit", String(cursor ? PAGE : FIRST));
    if (cursor) asked.set("cursor", cursor);
    return ask(`/queue/requests?${asked}`, { signal });
  }

  /** Rows that are drawn together, or not at all while they are far; nothing where all are there. @param {Entry[]} entries */
  chunk(entries) {
    const rows = entries.filter((entry) => !this.rows.has(entry.request_id)).map((entry) => {
      const row = new RequestRow(entry);
      row.mark.checked = this.marks.marked.has(entry.request_id);
      this.rows.set(entry.request_id, row);
      this.looking.observe(row);
      return row;
    });
    if (!rows.length) return [];
    const chunk = make("div", { class: "chunk" }, ...rows);
    chunk.style.setProperty("--rows", String(rows.length));
    return [chunk];
  }

  /** What was asked for since, above the others. */
  async refresh() {
    const { signal } = this.leaving;
    const { requests } = await this.page("", signal).catch(() => ({ requests: [] }));
    if (signal.aborted) return;
    const known = requests.findIndex((entry) => this.rows.has(entry.request_id));
    if (known < 0 && this.rows.size && requests.length) await this.begin(); // more than a page of them
    else if (known > 0 || (requests.length && !this.rows.size)) this.list.prepend(...this.chunk(requests));
    this.count();
  }

  count() {
    const none = this.filter.query ? "No request is of this kind." : "Nothing was drawn yet.";
    const looking = this.cursor ? "Looking further back …" : none;
    this.said.textContent = this.rows.size ? "" : looking;
  }

  /** Fills rows that come into view. @param {IntersectionObserverEntry[]} seen */
  look(seen) {
    for (const { target, isIntersecting } of seen) {
      const row = /** @type {RequestRow} */ (target);
      if (isIntersecting) {
        this.near.add(row);
        this.want(row);
      } else {
        this.near.delete(row);
        this.few.drop(row);
      }
    }
  }

  /** @param {RequestRow} row */
  want(row) {
    this.few.want(row, async () => {
      await row.look();
      if (!row.isDone) return;
      this.looking.unobserve(row);
      this.near.delete(row);
    });
  }

  /** Asks again for those in view that have not ended. */
  follow() {
    if (document.visibilityState !== "visible") return;
    for (const row of this.near) if (isOpen(row.entry)) this.want(row);
  }

  /** @param {RequestRow} row */
  async open(row) {
    const { RequestDetails } = await import("./request-details.js");
    if (!this.details) this.append((this.details = new RequestDetails()));
    await this.details.open(row);
  }

  /** One that is there no more, for any filter. @param {string} id */
  lose(id) {
    this.marks.put(id, false);
    const row = this.rows.get(id);
    if (row) this.drop(row);
    this.count();
  }

  /** @param {RequestRow} row */
  drop(row) {
    const id = row.entry.request_id;
    this.rows.delete(id);
    this.near.delete(row);
    this.few.drop(row);
    this.looking.unobserve(row);
    row.leave();
  }
}

customElements.define("fs-requests", Requests);
