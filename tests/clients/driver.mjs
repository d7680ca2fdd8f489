// Drives a published JavaScript client through one story: reads it as JSON from stdin, writes what happened as JSON.
//   {client, way, base, action: "subscribe" | "run" | "follow" | "cancel" | "stream" | "leave" | "submit" | "ask" | "upload"
//    | "blob", endpoint, input, options, credentials, cancelAt, requestId,
//    file: {base64, type, name, repeat}}    uploaded, or given to the endpoint as its image_url
import { File } from "node:buffer"; // global since Node 20
import { readFileSync } from "node:fs";
import { pointed, unwrapped } from "./pointing.mjs";

const story = JSON.parse(readFileSync(0, "utf8"));
const fal = pointed(story.client, story.way, story.base, story.credentials);
const seen = { statuses: [], logs: [], positions: [], events: [] };

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
function fileOf({ base64 = "Ynl0ZXM=", type = "image/png", name = "a.png", repeat = 1 } = {}) {
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
  // submit, and leave it at that
  async submit() {
    const { request_id: requestId } = await fal.queue.submit(story.endpoint, { input: story.input, ...story.options });
    return { requestId };
  },
  // status, result and cancel of a request that somebody else made: what each one throws
  async ask() {
    const refused = {};
    for (const verb of ["status", "result", "cancel"]) {
      try {
        await fal.queue[verb](story.endpoint, { requestId: story.requestId });
        refused[verb] = null;
      } catch (error) {
        refused[verb] = described(error);
      }
    }
    return { refused };
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

// a failed stream rejects done() while its events are still being read, and nobody may be told of that too late
async function streamed() {
  const stream = await fal.stream(story.endpoint, { input: story.input, ...story.options });
  stream.done().catch(() => {});
  return stream;
}

// every event as it comes, then what done() says
actions.stream = async () => {
  const stream = await streamed();
  for await (const event of stream) seen.events.push(event);
  return { output: await stream.done(), requestId: stream.requestId ?? null };
};

// leave a stream at its first event
actions.leave = async () => {
  const stream = await streamed();
  for await (const event of stream) {
    seen.events.push(event);
    break;
  }
  stream.abort();
  return { requestId: stream.requestId };
};

let outcome;
try {
  outcome = await actions[story.action]();
} catch (error) {
  outcome = { error: described(error) };
}
process.stdout.write(JSON.stringify({ ...seen, ...outcome }) + "\n");
