// The tab that describes the interface of an endpoint: routes, input, output, errors.

import { fill, make } from "./dom.js";
import { print } from "./json.js";
import { formsOf, inputOf, resolved } from "./schema.js";
import { row, table } from "./table.js";

export class ApiTab extends HTMLElement {
  /** @param {any} document @param {string} endpoint @param {string} service */
  constructor(document, endpoint, service) {
    super();
    this.document = document;
    const routes = [
      ["POST", `${service}/queue/${endpoint}`, "Queue it; answers at once with the addresses to follow."],
      ["POST", `${service}/run/${endpoint}`, "Draw it in one call."],
      ["POST", `${service}/run/${endpoint}/stream`, "Draw it with previews, as server-sent events."],
      ...Object.entries(document.paths).flatMap(([path, item]) =>
        Object.entries(item).filter(() => path.includes("{")).map(([method, { summary }]) => [method.toUpperCase(), `${service}/queue${path}`, summary]),
      ),
    ];
    const rows = routes.map(([method, address, what]) => row(code(`${method} ${address}`), what));
    const paths = Object.values(document.paths);
    const output = paths.flatMap((item) => Object.values(item))
      .find((/** @type {any} */ operation) => operation.operationId?.startsWith("result"))
      ?.responses["200"].content["application/json"].schema;
    fill(
      this,
      make("h2", { text: "Routes" }), table(["Route", "What it does"], rows),
      make("h2", { text: "Input" }), this.schema(inputOf(document, endpoint)),
      make("h2", { text: "Output" }), this.schema(resolved(document, output)),
      make("h2", { text: "Errors" }), this.errors(),
      make("p", {}, "All of it as OpenAPI: ", make("a", { href: `/openapi.json?endpoint_id=${endpoint}`, text: "this endpoint" }), ", ",
        make("a", { href: "/openapi.json", text: "the whole service" }), "."),
    );
  }

  /** @param {any} schema @returns {HTMLElement} */
  schema(schema) {
    const required = new Set(schema?.required ?? []);
    const rows = Object.entries(schema?.properties ?? {}).map(([name, property]) => {
      const wanted = required.has(name) && make("span", { class: "required", text: "required" });
      const initial = property.default !== undefined && property.default !== null && make("p", {}, "Default: ", code(print(property.default)));
      const parts = this.parts(property);
      const inside = parts && make("details", {}, make("summary", { text: "Its fields" }), this.schema(parts));
      return row(make("div", {}, code(name), " ", wanted), code(this.type(property)), make("div", {}, property.description ?? "", initial, inside));
    });
    return table(["Name", "Type", "Meaning"], rows);
  }

  /** The object inside a property, where there is one. @param {any} property @returns {any} */
  parts(property) {
    const forms = formsOf(this.document, property).flatMap((form) => [form, form.items].filter(Boolean));
    return forms.map((form) => resolved(this.document, form)).find((form) => form.properties);
  }

  /** @param {any} given @returns {string} */
  type(given) {
    const schema = resolved(this.document, given) ?? {};
    const several = schema.anyOf ?? schema.oneOf;
    if (several) return several.map((/** @type {any} */ form) => this.type(form)).join(" or ");
    if (schema.enum) return schema.enum.length > 12 ? `one of ${schema.enum.length} texts` : schema.enum.map((/** @type {any} */ each) => print(each)).join(" | ");
    if (schema.type === "array") return `list of ${this.type(schema.items)}`;
    const { minimum, maximum } = schema;
    const range = minimum === undefined && maximum === undefined ? "" : ` ${minimum ?? ""} … ${maximum ?? ""}`;
    return `${schema.title && schema.properties ? schema.title : schema.type ?? "any"}${range}`;
  }

  errors() {
    const { responses, schemas } = this.document.components;
    const rows = Object.entries(responses).map(([status, answer]) => {
      const schema = answer.content?.["application/json"]?.schema;
      return row(code(status), answer.description, code(schema?.$ref?.split("/").pop() ?? "any of them"));
    });
    const shapes = ["HTTPValidationError", "ValidationError", "PlatformError"].filter((name) => schemas[name]);
    const told = shapes.flatMap((name) => [make("h3", { text: name }), this.schema(schemas[name])]);
    return make("div", {}, table(["Status", "When", "Shape"], rows), ...told);
  }
}

/** @param {string} text */
function code(text) {
  return make("code", { text });
}

customElements.define("fs-api", ApiTab);
