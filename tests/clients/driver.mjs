// Drives a published JavaScript client through one story: reads it as JSON from stdin, writes what happened as JSON.
//   {client, way, base, action: "subscribe" | "run" | "follow" | "cancel" | "upload" | "blob", endpoint, input, options, cancelAt,
//    file: {base64, type, name, repeat}}    uploaded, or given to the endpoint as its image_url
import { readFileSync } from "node:fs";
import { pointed, unwrapped } from "./pointing.mjs";

const story = JSON.parse(readFileSync(0, "utf8"));
const fal = pointed(story.client, story.way, story.base);
const seen = { statuses: [], logs: [], positions: [] };

function note(update) {
  seen.statuses.push(update.status);
  if (update.status === "IN_QUEUE") seen.positions.push(update.queue_position);
  if (update.logs) seen.logs = update.logs.map((log) => log.message);
}

function described(error) {
  const found = {
    name: error.name,
    type: error.constructor.name,
    message: error.message,
    status: error.status ?? null,
    body: error.body ?? null,
    requestId: error.requestId ?? null,
  };
  if (typeof error.getFieldErrors === "function") {
    found.fields = Object.fromEntries(story.fields.map((field) => [field, error.getFieldErrors(field)]));
  }
  return found;
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// the old client takes (endpoint, {requestId}) as well
async function statusOf(requestId) {
  const update = await fal.queue.status(story.endpoint, { requestId, logs: true });
  note(update);
  return update.status;
}

// a File of the bytes, as often one after the other as `repeat` says
function fileOf({ base64, type, name, repeat = 1 }) {
  const bytes = Buffer.from(base64, "base64");
  return new File(Array(repeat).fill(bytes), name, { type });
}

const actions = {
  // the address of an uploaded file
  async upload() {
    return { url: await fal.storage.upload(fileOf(story.file), story.options) };
  },
  // the client uploads what stands in an input as a Blob
  async blob() {
    const input = { ...story.input, image_url: fileOf(story.file) };
    return unwrapped(story.client, await fal.subscribe(story.endpoint, { input }));
  },
  async subscribe() {
    return unwrapped(
      story.client,
      await fal.subscribe(story.endpoint, { input: story.input, logs: true, onQueueUpdate: note, ...story.options }),
    );
  },
  async run() {
    return unwrapped(story.client, await fal.run(story.endpoint, { input: story.input }));
  },
  // submit, look at the status until it is done, take the result by its id
  async follow() {
    const { request_id: requestId } = await fal.queue.submit(story.endpoint, { input: story.input });
    while ((await statusOf(requestId)) !== "COMPLETED") await pause(50);
    return unwrapped(story.client, await fal.queue.result(story.endpoint, { requestId }));
  },
  // submit, cancel when the status is `cancelAt`, see it end, then ask for the result
  async cancel() {
    const { request_id: requestId } = await fal.queue.submit(story.endpoint, { input: story.input });
    while ((await statusOf(requestId)) !== story.cancelAt) await pause(20);
    await fal.queue.cancel(story.endpoint, { requestId });
    while ((await statusOf(requestId)) !== "COMPLETED") await pause(20);
    return unwrapped(story.client, await fal.queue.result(story.endpoint, { requestId }));
  },
};

let outcome;
try {
  outcome = await actions[story.action]();
} catch (error) {
  outcome = { error: described(error) };
}
process.stdout.write(JSON.stringify({ ...seen, ...outcome }) + "\n");
