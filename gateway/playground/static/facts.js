// What is known of a request, as names and values.

import { make, spelled } from "./dom.js";
import { print } from "./json.js";

/** A value as people read it. @param {any} value */
export function legible(value) {
  return typeof value === "string" ? value : print(value, 2);
}

/** Of what is known, the parts of a `dl`. @param {[string, any][]} pairs @returns {HTMLElement[]} */
export function facts(pairs) {
  const known = pairs.filter(([, value]) => value !== undefined && value !== null && value !== "");
  return known.flatMap(([name, value]) => [make("dt", { text: name }), make("dd", { text: legible(value) })]);
}

/** How long each stage of its making took. @param {Record<string, number> | null | undefined} timings */
export function stages(timings) {
  return Object.entries(timings ?? {}).map(([stage, seconds]) => `${stage} ${spelled(Number(seconds))}`).join(", ");
}
