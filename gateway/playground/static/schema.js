// An endpoint's OpenAPI document as fields of a form: which there are, of what kind, and where each one stands.

/**
 * @typedef {"text" | "line" | "switch" | "choice" | "range" | "number" | "whole" | "choices" | "words" | "image"
 *   | "size" | "aspect" | "group" | "list"} Kind
 */
/**
 * path: the way to it from the body, by which errors name it. initial: what it is where nothing is sent.
 * fields: of a group. options: of a choice.
 * @typedef {object} Field
 * @property {string} name
 * @property {string} path
 * @property {string} label
 * @property {string} description
 * @property {Kind} kind
 * @property {boolean} required
 * @property {boolean} nullable
 * @property {any} initial
 * @property {any} schema
 * @property {string[]} options
 * @property {Field[]} fields
 */
/** @typedef {{title: string, fields: Field[]}} Section */

const ACRONYMS = new Map([["uov", "Upscale or vary"], ["loras", "LoRAs"], ["url", ""], ["num", "Number of"]]);

/** @param {any} document @param {any} schema @returns {any} The schema that a reference names. */
export function resolved(document, schema) {
  if (!schema?.$ref) return schema;
  return schema.$ref.slice(2).split("/").reduce((/** @type {any} */ at, /** @type {string} */ key) => at[key], document);
}

/** The schema of what an endpoint takes. @param {any} document @param {string} endpoint */
export function inputOf(document, endpoint) {
  return resolved(document, document.paths[`/${endpoint}`].post.requestBody.content["application/json"].schema);
}

/** @param {any} document @param {string} endpoint @returns {Field[]} In the document's order; none is left out. */
export function fieldsOf(document, endpoint) {
  return fieldsIn(document, inputOf(document, endpoint), "");
}

/** @param {any} document @param {any} schema @param {string} prefix @returns {Field[]} */
function fieldsIn(document, schema, prefix) {
  const required = new Set(schema.required ?? []);
  return Object.entries(schema.properties ?? {}).map(([name, property]) =>
    fieldFor(document, name, property, prefix + name, required.has(name)),
  );
}

/**
 * @param {any} document @param {string} name @param {any} property @param {string} path @param {boolean} required
 * @returns {Field}
 */
function fieldFor(document, name, property, path, required) {
  const forms = formsOf(document, property);
  const filled = forms.filter((/** @type {any} */ form) => form.type !== "null");
  const kind = filled.length > 1 ? "size" : kindOf(name, filled[0], resolved(document, filled[0].items));
  const schema = { ...(filled.length > 1 ? {} : filled[0]), ...property };
  /** @type {Field} */
  const field = {
    name, path, kind, required, schema,
    label: labelOf(name),
    description: property.description ?? filled[0].description ?? "",
    nullable: filled.length < forms.length,
    initial: property.default ?? null,
    options: [],
    fields: [],
  };
  if (kind === "choice") field.options = filled[0].enum;
  if (kind === "choices") field.options = resolved(document, filled[0].items).enum;
  if (kind === "size") {
    field.options = filled.flatMap((/** @type {any} */ form) => form.enum ?? []);
    const object = filled.find((/** @type {any} */ form) => form.type === "object");
    field.fields = fieldsIn(document, object, `${path}.`);
  }
  if (kind === "group") field.fields = fieldsIn(document, filled[0], `${path}.`);
  if (kind === "list") field.fields = fieldsIn(document, resolved(document, filled[0].items), "");
  return field;
}

/** All that a value may be; choices stand in choices. @param {any} document @param {any} given @returns {any[]} */
export function formsOf(document, given) {
  const schema = resolved(document, given);
  const forms = schema.anyOf ?? schema.oneOf;
  return forms ? forms.flatMap((/** @type {any} */ form) => formsOf(document, form)) : [schema];
}

/** @param {string} name @param {any} schema @param {any} items @returns {Kind} */
function kindOf(name, schema, items) {
  if (schema.enum) return "choice";
  switch (schema.type) {
    case "boolean":
      return "switch";
    case "object":
      return "group";
    case "array":
      return items?.enum ? "choices" : items?.type === "object" ? "list" : "words";
    case "integer":
    case "number":
      if (schema.minimum !== undefined && schema.maximum !== undefined) return "range";
      return schema.type === "integer" ? "whole" : "number";
  }
  if (name.endsWith("image_url")) return "image";
  if (name === "aspect_ratio") return "aspect";
  return name.endsWith("prompt") ? "text" : "line";
}

/** @param {string} name */
function labelOf(name) {
  const words = name.split("_").map((word) => ACRONYMS.get(word) ?? word).filter(Boolean).join(" ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

const FIRST = [
  ..."prompt image_url uov_image_url uov_method inpaint_image_url mask_image_url inpaint_mode image_prompt_1".split(" "),
  ..."performance aspect_ratio image_size strength num_images negative_prompt seed".split(" "),
];
/** Fields that say something of a picture, and of which one. */
export const WITH = new Map([["mask_image_url", "inpaint_image_url"], ["inpaint_mode", "inpaint_image_url"], ["uov_method", "uov_image_url"]]);
const ONLY_REQUIRED = new Set(["uov_image_url", "inpaint_image_url", "image_prompt_1"]);
/** @type {[string, RegExp][]} */
const FOLDED = [
  ["Styles", /^styles$/],
  ["Inpaint and outpaint", /inpaint|outpaint|mask/],
  ["Upscale or vary", /^uov_|vary_upscale/],
  ["Image guidance", /^image_prompt_|^control_/],
  ["LoRAs and models", /lora|embedding|refiner/],
  ["Advanced", /./],
];

/** The fields as they are shown: what everybody needs first, the rest folded. @param {Field[]} fields @returns {Section[]} */
export function sectionsOf(fields) {
  const required = new Set(fields.filter((field) => field.required).map((field) => field.name));
  const isSimple = (/** @type {Field} */ { name }) =>
    required.has(name) ||
    (FIRST.includes(name) && !ONLY_REQUIRED.has(name) && (!WITH.has(name) || required.has(WITH.get(name) ?? "")));
  const place = (/** @type {Field} */ { name }) => (FIRST.includes(name) ? FIRST.indexOf(name) : FIRST.length);
  const simple = fields.filter(isSimple).sort((one, other) => place(one) - place(other));
  let rest = fields.filter((field) => !isSimple(field));
  const sections = [{ title: "", fields: simple }];
  for (const [title, names] of FOLDED) {
    const found = rest.filter((field) => names.test(field.name));
    rest = rest.filter((field) => !names.test(field.name));
    if (found.length) sections.push({ title, fields: found });
  }
  return sections;
}
