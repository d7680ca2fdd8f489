// Two requests beside one another: their pictures, and in what their settings differ.

import { fill, make, spelled } from "./dom.js";
import { legible } from "./facts.js";
import { same } from "./json.js";
import { Pictures } from "./pictures.js";
import { picturesOf, textsOf, timesOf, use, wordOf } from "./record.js";
import { addressOf, ask } from "./service.js";
import { table } from "./table.js";

/** @typedef {import("./record.js").RequestRecord} RequestRecord */

export class RequestComparison extends HTMLElement {
  constructor() {
    super();
    this.body = make("div", { class: "compared" });
    const close = make("button", { type: "button", text: "Close", onclick: () => this.dialog.close() });
    const title = make("h2", { id: "comparison-title", text: "Side by side" });
    this.dialog = make("dialog", { class: "details", "aria-labelledby": title.id }, make("div", { class: "head" }, title, close), this.body);
    this.dialog.addEventListener("click", ({ target }) => target === this.dialog && this.dialog.close());
    fill(this, this.dialog);
  }

  /** @param {string[]} ids */
  async open(ids) {
    fill(this.body);
    this.dialog.showModal();
    try {
      const records = await Promise.all(ids.map((id) => ask(addressOf(id))));
      records.sort((one, other) => Date.parse(one.created_at) - Date.parse(other.created_at));
      fill(this.body, make("div", { class: "columns" }, ...records.map(column)), ...differences(records));
    } catch (fault) {
      fill(this.body, make("p", { class: "error", role: "alert", text: /** @type {Error} */ (fault).message }));
    }
  }
}

/** @param {RequestRecord} record @param {number} at */
function column(record, at) {
  const pictures = new Pictures();
  pictures.show(picturesOf(record), record.output?.has_nsfw_concepts);
  pictures.addEventListener("use", (event) => use(record, /** @type {CustomEvent} */ (event).detail));
  const head = make("h3", { text: `${at ? "Right" : "Left"}: ${record.endpoint_id}` });
  const when = make("p", { class: "hint", text: `${wordOf(record)}, ${new Date(record.created_at).toLocaleString()}` });
  return make("section", {}, head, when, pictures, record.error && make("p", { class: "error", text: record.error }));
}

/** Names and values of all that may differ. @param {RequestRecord} record @returns {Record<string, any>} */
function compared(record) {
  const { drawing } = timesOf(record);
  return {
    endpoint: record.endpoint_id,
    ...record.input,
    seed: record.seeds[0],
    ...Object.fromEntries(textsOf(record).map(([title, text]) => [`${title} as drawn`, text])),
    "drawn in": drawing === null ? undefined : spelled(drawing),
  };
}

/** @param {RequestRecord[]} records @returns {HTMLElement[]} */
function differences(records) {
  const [left, right] = records.map(compared);
  const names = [...new Set([...Object.keys(left), ...Object.keys(right)])];
  const unlike = names.filter((name) => !same(left[name], right[name]));
  const alike = names.length - unlike.length;
  const rows = unlike.map((name) => make("tr", {}, make("th", { scope: "row", text: name }), cell(left, name), cell(right, name)));
  return [
    make("h3", { text: "What differs" }),
    table(["Setting", "Left", "Right"], rows, "What differs"),
    make("p", { class: "hint", text: alike === 1 ? "One other is the same in both." : `${alike} others are the same in both.` }),
  ];
}

/** @param {Record<string, any>} values @param {string} name */
function cell(values, name) {
  return make("td", {}, name in values && values[name] !== undefined ? legible(values[name]) : make("span", { class: "hint", text: "not sent" }));
}

customElements.define("fs-request-comparison", RequestComparison);
