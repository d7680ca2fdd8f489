// JSON whose whole numbers keep all their digits: a seed goes up to 2^64 - 1, which a number cannot hold.

/** @param {string} text @returns {any} */
export function parse(text) {
  const reviver = /** @type {(key: string, value: any) => any} */ (exact);
  return JSON.parse(text, reviver);
}

/** @param {string} _ @param {any} value @param {{source?: string}} [context] */
function exact(_, value, context) {
  const source = context?.source;
  const digits = typeof value === "number" && !Number.isSafeInteger(value) && source && /^-?\d+$/.test(source);
  return digits ? BigInt(/** @type {string} */ (source)) : value;
}

/** @param {any} value @param {number} [indent] @returns {string} */
export function print(value, indent) {
  const mark = `int-${crypto.getRandomValues(new Uint32Array(2)).join("")}-`; // which no text of a person has
  const marked = JSON.stringify(value, (_, each) => (typeof each === "bigint" ? mark + each : each), indent);
  return marked === undefined ? "null" : marked.replace(new RegExp(`"${mark}(-?\\d+)"`, "g"), "$1");
}

/** Whether two values are the same JSON. @param {any} one @param {any} other */
export function same(one, other) {
  return print(one) === print(other);
}
