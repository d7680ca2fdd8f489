// The request in the form as programs that run as they are: cURL, Python, JavaScript.

import { print } from "./json.js";

/**
 * service: the address at which programs call it. keys: whether one is required.
 * @typedef {{service: string, endpoint: string, input: Record<string, any>, keys: boolean}} Asked
 */

const PLACEHOLDER = "any:key"; // clients want one where the service does not

/** @type {[string, (asked: Asked) => string][]} */
export const LANGUAGES = [["cURL", curl], ["Python", python], ["JavaScript", javascript]];

/** @param {Asked} asked */
export function curl({ service, endpoint, input, keys }) {
  const key = keys ? ` \\\n  -H "Authorization: Key $FAL_KEY"` : "";
  const body = print(input, 2).replaceAll("'", `'\\''`);
  return `curl -sS "${service}/run/${endpoint}"${key} \\\n  -H "Content-Type: application/json" \\\n  -d '${body}'\n`;
}

/** @param {Asked} asked */
export function python({ service, endpoint, input, keys }) {
  const key = keys ? "" : `os.environ.setdefault("FAL_KEY", "${PLACEHOLDER}")\n`;
  return `# pip install fal-client${keys ? "; the key in the variable FAL_KEY" : ""}
${keys ? "" : "import os\n\n"}import fal_client
from fal_client import client

${key}service = "${service}"
client.RUN_URL_FORMAT, client.QUEUE_URL_FORMAT = f"{service}/run/", f"{service}/queue/"
client.REST_URL, client.CDN_URL = f"{service}/rest", f"{service}/cdn"

result = fal_client.subscribe(
    "${endpoint}",
    arguments=${literal(input, "    ")},
)
for image in result["images"]:
    print(image["url"])
`;
}

/** @param {Asked} asked */
export function javascript({ service, endpoint, input, keys }) {
  const key = keys ? "process.env.FAL_KEY" : `"${PLACEHOLDER}"`;
  return `// npm install @fal-ai/client${keys ? "; the key in the variable FAL_KEY" : ""}; save it as app.mjs and run: node app.mjs
import { fal } from "@fal-ai/client";

const service = "${service}";
const here = (url) => url
  .replace("https://queue.fal.run", \`\${service}/queue\`)
  .replace("https://fal.run", \`\${service}/run\`)
  .replace("https://rest.fal.ai", \`\${service}/rest\`);
fal.config({ credentials: ${key}, requestMiddleware: async (request) => ({ ...request, url: here(request.url) }) });

const { data } = await fal.subscribe("${endpoint}", {
  input: ${JSON.stringify(input, inTexts, 2).replaceAll("\n", "\n  ")},
});
for (const image of data.images) console.log(image.url);
`;
}

/** JavaScript's numbers round a large seed; its digits are taken as a text. @param {string} _ @param {any} value */
function inTexts(_, value) {
  return typeof value === "bigint" ? String(value) : value;
}

/** A value as Python writes it. @param {any} value @param {string} margin @returns {string} */
function literal(value, margin) {
  if (value === null || value === undefined) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "object") return print(value); // texts and numbers are written alike
  const inner = `${margin}    `;
  const [begin, end] = Array.isArray(value) ? "[]" : "{}";
  const parts = Array.isArray(value)
    ? value.map((each) => literal(each, inner))
    : Object.entries(value).map(([name, each]) => `${print(name)}: ${literal(each, inner)}`);
  return parts.length ? `${begin}\n${parts.map((part) => `${inner}${part},\n`).join("")}${margin}${end}` : begin + end;
}
