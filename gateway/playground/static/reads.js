// What of a picture is read: boxes in its pixels, by the service's own rules (its docs, fooocus-facts 5.1, 6.1 and 6.4).
// Pictures to begin from, to vary and to enlarge are read whole, as looks are; where a face is, a detector alone knows.

/** @typedef {{left: number, top: number, width: number, height: number}} Box */
/** The first and the last row and column that are marked. @typedef {{rows: [number, number], columns: [number, number]}} Span */
/** What a form has, its defaults too. @typedef {Record<string, any>} Values */

const MARGIN = 1.15; // of the first box to the longer side of the hole
const OUTPAINTS = "Inpaint or Outpaint (default)"; // the one mode that continues pictures, and looks around
const AROUND = 0.618;

/** What is cut out of a picture that shall cover a size: its centre (of PyraCanny and CPDS). @returns {Box}
 * @param {number} width @param {number} height Of the picture. @param {number} wide @param {number} tall Of the size. */
export function covering(width, height, wide, tall) {
  const isWider = width * tall > height * wide;
  const scaled = isWider ? [Math.floor((width * tall) / height), tall] : [wide, Math.floor((height * wide) / width)];
  const [across, down] = [width / scaled[0], height / scaled[1]];
  const left = (Math.floor(scaled[0] / 2) - Math.floor(wide / 2)) * across;
  const top = (Math.floor(scaled[1] / 2) - Math.floor(tall / 2)) * down;
  return { left, top, width: Math.min(wide * across, width - left), height: Math.min(tall * down, height - top) };
}

/** The area round a hole that is read and drawn with it. @returns {Box} @param {Span} hole
 * @param {number} width @param {number} height Of the picture. @param {number} field From 0, the hole, to 1, all. */
export function areaOf({ rows, columns }, width, height, field) {
  if (field >= 1) return { left: 0, top: 0, width, height };
  const half = Math.trunc(MARGIN * Math.max(...[rows, columns].map(([first, last]) => Math.floor((last - first) / 2))));
  const begun = (/** @type {[number, number]} */ [first, last], /** @type {number} */ length) => {
    const centre = Math.floor((first + last) / 2);
    return [Math.max(centre - half, 0), Math.min(centre + half + 1, length)];
  };
  let [[top, bottom], [left, right]] = [begun(rows, height), begun(columns, width)];
  while (bottom - top < field * height || right - left < field * width) {
    const [tall, wide] = [bottom - top, right - left];
    if (tall < wide || wide === width) [top, bottom] = [Math.max(top - 1, 0), Math.min(bottom + 1, height)];
    if (tall >= wide || tall === height) [left, right] = [Math.max(left - 1, 0), Math.min(right + 1, width)];
  }
  return { left, top, width: right - left, height: bottom - top };
}

/** A hole that has grown by so many pixels on every side. @returns {Span} @param {Span} hole
 * @param {number} width @param {number} height @param {number} by */
export function grown({ rows, columns }, width, height, by) {
  return {
    rows: [Math.max(rows[0] - by, 0), Math.min(rows[1] + by, height - 1)],
    columns: [Math.max(columns[0] - by, 0), Math.min(columns[1] + by, width - 1)],
  };
}

/** At which sides the picture is continued. @param {Values} values @returns {string[]} */
export function continued(values) {
  return values.inpaint_mode === OUTPAINTS ? values.outpaint_selections ?? [] : [];
}

/**
 * How the hole of a mask is read. by: pixels by which what is marked grows, or shrinks below 0; where the mask is
 * inverted that is the other way round, for a mask is grown before.
 * @param {Values} values @returns {{field: number, by: number, inverted: boolean}}
 */
export function reading(values) {
  const { inpaint_mode: mode = OUTPAINTS, override_inpaint_options: own, invert_mask: inverted = false } = values;
  const by = own ? Math.trunc(values.inpaint_erode_or_dilate) : 0;
  const field = own ? values.inpaint_respective_field : mode === OUTPAINTS ? AROUND : 0;
  return { field: continued(values).length ? 1 : field, by: inverted ? -by : by, inverted };
}

/** Whether the picture to change acts: beside image prompts that must be given, only where it is mixed in.
 * @param {Values} values @param {Set<string>} required */
export function repaints(values, required) {
  return Boolean(values.inpaint_image_url) && (!required.has("image_prompt_1") || values.mixing_image_prompt_and_inpaint);
}

/**
 * The size to which pictures that show where things are get cut, where it is `aspect_ratio`: not where another picture
 * says it, nor beside a picture that does not let them act.
 * @param {Values} values @param {Set<string>} required @returns {[number, number] | null}
 */
export function sizeDrawn(values, required) {
  if (required.has("inpaint_image_url") || required.has("uov_image_url") || repaints(values, required)) return null;
  const varied = values.uov_image_url && values.uov_method !== "Disabled" && values.mixing_image_prompt_and_vary_upscale;
  const found = /^(\d+)[x*×](\d+)$/i.exec(values.aspect_ratio ?? "");
  return found && !varied ? [Number(found[1]), Number(found[2])] : null;
}

/** All of a picture. @param {number} width @param {number} height @returns {Span} */
export function whole(width, height) {
  return { rows: [0, height - 1], columns: [0, width - 1] };
}
