// Drives @ai-sdk/fal through one generateImage: reads it as JSON from stdin, writes what the application got as JSON.
//   {base, key, model, keyed, asked}    asked: the arguments of generateImage, where input pictures are base64
//   keyed: the pictures are fetched with the key too, as docs/clients.md shows
import { readFileSync } from "node:fs";
import { createFal } from "@ai-sdk/fal";
import { generateImage } from "ai";

const { base, key, model, keyed, asked } = JSON.parse(readFileSync(0, "utf8"));
const downloads = [];

async function watched(url, options = {}) {
  if (!url.startsWith(`${base}/run/`)) {
    const headers = keyed ? { ...options.headers, Authorization: `Key ${key}` } : options.headers;
    options = { ...options, headers };
    downloads.push({ to: url.split(":")[0], keyed: new Headers(headers).has("authorization") });
  }
  return fetch(url, options);
}

const fal = createFal({ apiKey: key, baseURL: `${base}/run`, fetch: watched });

function told({ images, warnings, responses, providerMetadata }) {
  return {
    images: images.map(({ base64, mediaType }) => ({ base64, mediaType })),
    warnings,
    headers: responses[0].headers,
    metadata: providerMetadata.fal,
  };
}

function described({ name, message, statusCode, isRetryable, data }) {
  return { name, message, statusCode, isRetryable, data };
}

const outcome = await generateImage({ model: fal.image(model), maxRetries: 0, ...asked }).then(told, (error) => ({
  error: described(error),
}));
process.stdout.write(JSON.stringify({ ...outcome, downloads }) + "\n");
