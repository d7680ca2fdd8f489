// What stands in the forms, for as long as the tab lives: it survives a reload, and is handed from endpoint to endpoint.

import { parse, print } from "./json.js";

const HANDED_ON = ["prompt", "negative_prompt", "styles", "performance", "seed", "num_images"];

/** @param {string} endpoint */
const name = (endpoint) => `fooocus.draft.${endpoint}`;

export const drafts = {
  /** @param {string} endpoint @returns {Record<string, any>} */
  get(endpoint) {
    const text = sessionStorage.getItem(name(endpoint));
    return text ? parse(text) : {};
  },

  /** @param {string} endpoint @param {Record<string, any>} input */
  put(endpoint, input) {
    try {
      sessionStorage.setItem(name(endpoint), print(input));
    } catch {
      // a picture inside it is too large to be kept; the form still has it
    }
  },

  /** A draft for another endpoint, with what is asked for in the same words there. @param {string} endpoint
   * @param {Record<string, any>} input @param {Record<string, any>} more */
  handOn(endpoint, input, more) {
    const same = Object.entries(input).filter(([each]) => HANDED_ON.includes(each));
    this.put(endpoint, { ...Object.fromEntries(same), ...more });
  },
};
