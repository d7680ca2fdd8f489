// Prints the fields of a form: reads an OpenAPI document from stdin; the endpoint and the folder of the modules are arguments.
import { readFileSync } from "node:fs";

const [endpoint, folder] = process.argv.slice(2);
const { fieldsOf, sectionsOf } = await import(`file://${folder}/schema.js`);
const fields = fieldsOf(JSON.parse(readFileSync(0, "utf-8")), endpoint);
const shown = sectionsOf(fields).map(({ title, fields }) => [title, fields.map(({ name }) => name)]);
const kinds = (some) => Object.fromEntries(some.map(({ name, kind, required, fields }) => [name, { kind, required, fields: kinds(fields) }]));
console.log(JSON.stringify({ kinds: kinds(fields), shown }));
