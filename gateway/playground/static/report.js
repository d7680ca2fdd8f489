// What the service tells of itself: the most important as tiles, then who draws, what waits, what went wrong.

import { fill, make, spelled } from "./dom.js";
import { pageOf } from "./service.js";
import { row, table } from "./table.js";

const UNKNOWN = "unknown";

/** A titled table that is renewed in place, or a sentence where it has nothing. */
class Listing {
  /** @param {string} title @param {string[]} names @param {string} nothing */
  constructor(title, names, nothing) {
    this.nothing = nothing;
    this.said = make("p", { class: "hint" });
    this.table = table(names, [], title);
    this.body = /** @type {HTMLElement} */ (this.table.querySelector("tbody"));
    this.parts = [make("h2", { text: title }), this.said, this.table];
  }

  /** @param {HTMLTableRowElement[] | null} rows Null: nobody knows. @param {string} whom Who would. */
  show(rows, whom) {
    this.table.hidden = !rows?.length;
    this.said.hidden = !this.table.hidden;
    this.said.textContent = rows ? this.nothing : `Unknown: the ${whom} does not answer.`;
    renew(this.body, rows ?? []);
  }
}

export class Report extends HTMLElement {
  constructor() {
    super();
    this.tiles = make("dl", { class: "tiles" });
    this.replicas = new Listing(
      "Replicas that draw",
      ["Replica", "State", "Rows taken", "Requests", "Rows a step", "Busy", "Bases", "LoRA sets", "Base hits", "LoRA hits"],
      "None draws now; what waits has them started.",
    );
    this.queue = new Listing("Queue", ["Endpoint", "Priority", "Waiting", "On the way", "Being drawn", "Oldest waits"], "Nothing waits, and nothing is drawn.");
    this.errors = new Listing("Last errors", ["Request", "When", "Endpoint", "Key", "Type", "What its caller was told"], "None among the last 2,000 requests.");
    this.metrics = make("ul", {});
    const more = make(
      "p", {}, "The same as JSON: ", make("code", { text: "GET /status" }), ". Whether requests are accepted: ", make("a", { href: "/ready", text: "/ready" }),
      ". Who sent what: ", make("a", { href: "/requests", text: "requests" }), ". What each metric means, the dashboard and what to do at each alert: ",
      make("code", { text: "docs/operations.md" }), ".",
    );
    const listings = [this.replicas, this.queue, this.errors].flatMap(({ parts }) => parts);
    fill(this, this.tiles, ...listings, make("h2", { text: "Metrics" }), this.metrics, more);
  }

  /** @param {any} told As `GET /status` answers. */
  show(told) {
    fill(this.tiles, ...tiles(told).map(([name, value, tone]) => make("div", { class: tone }, make("dt", { text: name }), make("dd", { text: value }))));
    this.replicas.show(told.replicas?.map(replicaRow) ?? null, "dispatcher");
    this.queue.show(told.queue?.map(queueRow) ?? null, "ledger");
    this.errors.show(told.errors?.map(errorRow) ?? null, "ledger");
    const found = (told.metrics ?? []).map((/** @type {string} */ href) => make("li", {}, make("a", { href, rel: "noreferrer", text: href })));
    renew(this.metrics, found.length ? found : [make("li", { text: "Ray's agent of each machine offers them in Prometheus' form; make serve prints where." })]);
  }
}

/** @param {any} told @returns {[string, string, string?][]} Name, value, and whether it is well. */
function tiles({ stores, leader, replicas, starting, queue, webhooks, versions }) {
  const away = Object.entries(stores).filter(([, up]) => !up).map(([store]) => store);
  const sum = (/** @type {any[] | null} */ lines, /** @type {string} */ name) => lines?.reduce((all, line) => all + line[name], 0);
  const waiting = sum(queue, "waiting");
  const oldest = Math.max(...(queue ?? []).map((/** @type {any} */ line) => line.oldest_wait ?? 0), 0);
  const coming = starting ? `, ${starting} starting` : "";
  return [
    ["Stores", away.length ? `${away.join(" and ")} away` : "all there", away.length ? "wrong" : "well"],
    ["Leading dispatcher", leader ? `${leader.name}, for ${lasting(leader.leads_for)}` : UNKNOWN, leader ? "well" : "wrong"],
    ["Replicas that draw", replicas ? `${replicas.length}${coming}` : UNKNOWN, replicas && (replicas.length || !waiting) ? "well" : "wrong"],
    ["Rows taken", replicas ? `${number(sum(replicas, "rows_taken"))} of ${sum(replicas, "rows")}` : UNKNOWN],
    ["Waiting", queue ? `${waiting}${waiting ? `, the oldest for ${lasting(oldest)}` : ""}` : UNKNOWN],
    ["Being drawn", queue ? String(sum(queue, "running")) : UNKNOWN],
    ["Webhooks owed", webhooks ? `${webhooks.owed}${webhooks.owed ? `, the oldest for ${lasting(webhooks.oldest)}` : ""}` : UNKNOWN],
    ["Version", versions.service ?? UNKNOWN],
    ["Model family", versions.family ?? UNKNOWN],
  ];
}

/** @param {any} one */
function replicaRow(one) {
  const { state, bases } = one;
  return row(
    make("code", { text: one.name }), make("span", { class: `drawer ${state}`, text: STATES[state] ?? state }),
    `${number(one.rows_taken)} of ${one.rows}`, String(one.requests), one.rows_a_step === null ? "–" : number(one.rows_a_step), `${Math.round(100 * one.busy)} %`,
    make("span", { class: "wide", text: ["the family's own", ...bases].join(", ") }), String(one.lora_sets), hits(one.base_hits, one.base_misses), hits(one.lora_hits, one.lora_misses),
  );
}

/** @type {Record<string, string>} */
const STATES = { idle: "idle", drawing: "drawing", avoided: "stopping", ended: "lost, waits to be replaced" };

/** @param {any} line */
function queueRow({ endpoint_id: endpoint, priority, waiting, claimed, running, oldest_wait: oldest }) {
  return row(make("code", { text: endpoint }), priority, String(waiting), String(claimed), String(running), oldest === null ? "–" : lasting(oldest));
}

/** @param {any} one */
function errorRow({ request_id: id, endpoint_id: endpoint, key, status_code: status, error_type: type, message, at }) {
  const when = make("time", { datetime: at, text: new Date(at).toLocaleString() });
  return row(make("a", { href: pageOf(endpoint, id), text: id }), when, make("code", { text: endpoint }), key ?? "–", `${status} ${type}`, make("span", { class: "wide", text: message }));
}

/** Of the last minute. @param {number} found @param {number} missing */
function hits(found, missing) {
  return found + missing ? `${found} of ${found + missing}` : "–";
}

/** As `spelled`, also of days. @param {number} seconds */
function lasting(seconds) {
  const hours = Math.floor(seconds / 3600);
  if (!hours) return spelled(seconds);
  return hours < 48 ? `${hours} h ${Math.floor((seconds % 3600) / 60)} min` : `${Math.floor(hours / 24)} days`;
}

/** @param {number} value */
function number(value) {
  return String(Math.round(10 * value) / 10);
}

/**
 * Puts rows in the place of those that a body has. Equal ones stay the elements that they are, with focus and selection.
 * @param {HTMLElement} body @param {HTMLElement[]} rows
 */
function renew(body, rows) {
  rows.forEach((wanted, at) => {
    const rest = [...body.children].slice(at);
    const same = rest.findIndex((each) => each.isEqualNode(wanted));
    if (same < 0) body.insertBefore(wanted, rest[0] ?? null);
    else rest.slice(0, same).forEach((gone) => gone.remove());
  });
  [...body.children].slice(rows.length).forEach((gone) => gone.remove());
}

customElements.define("fs-report", Report);
