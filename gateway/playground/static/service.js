// Calls the service: with the key where there is one, and with what it answers as an error of its own kind.

import { parse, print } from "./json.js";

const KEY = "fooocus.key";

/** @typedef {{loc: (string | number)[], msg: string, type: string}} Fault */

/** What the service refused, or that it could not be reached (status 0). */
export class Refused extends Error {
  /** @param {number} status @param {any} body */
  constructor(status, body) {
    const detail = body?.detail;
    super(typeof detail === "string" ? detail : body?.message ?? detail?.[0]?.msg ?? `The service answered ${status}.`);
    this.status = status;
    this.body = body;
    /** @type {Fault[]} */
    this.faults = Array.isArray(detail) ? detail : [];
  }

  /** Whether the same call may go well a little later. */
  get passes() {
    return this.status === 0 || this.status >= 500 || this.status === 429;
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  /** @param {string} value */
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

/** Who asks for a key: resolves to whether there is another one now. Set by the page. */
export const asking = { key: async () => false };

/**
 * quiet: a key is not asked for; what is missing is not told.
 * @typedef {RequestInit & {json?: any, quiet?: boolean}} Call
 */

/** @param {string} path @param {Call} [call] @returns {Promise<Response>} An answer below 400; Refused for others. */
export async function call(path, { json, quiet, ...init } = {}) {
  const send = async () => {
    const headers = new Headers(init.headers);
    if (key.get()) headers.set("authorization", `Key ${key.get()}`);
    if (json !== undefined) headers.set("content-type", "application/json");
    const body = json === undefined ? init.body : print(json);
    try {
      return await fetch(path, { ...init, headers, body, credentials: "omit" });
    } catch (fault) {
      if (init.signal?.aborted) throw fault;
      throw new Refused(0, { detail: "The service cannot be reached." });
    }
  };
  let answer = await send();
  if (answer.status === 401 && !quiet && (await asking.key())) answer = await send();
  if (answer.ok) return answer;
  throw new Refused(answer.status, await read(answer));
}

/** @param {Response} answer @returns {Promise<any>} */
async function read(answer) {
  const text = await answer.text();
  try {
    return parse(text);
  } catch {
    return { detail: text.slice(0, 500) || `The service answered ${answer.status}.` };
  }
}

/** @param {string} path @param {Call} [init] @returns {Promise<any>} */
export async function ask(path, init) {
  return read(await call(path, init));
}

/**
 * The events of a stream, until it ends. A name is "" where an event has none.
 * @param {Response} answer @returns {AsyncGenerator<{name: string, data: any}>}
 */
export async function* events(answer) {
  const reader = /** @type {ReadableStream<Uint8Array>} */ (answer.body).getReader();
  const decoder = new TextDecoder();
  let rest = "";
  try {
    while (true) {
      const { done, value } = await reader.read();
      if (done) return;
      const blocks = (rest + decoder.decode(value, { stream: true })).split("\n\n");
      rest = blocks.pop() ?? "";
      for (const block of blocks) {
        const line = (/** @type {string} */ name) =>
          block.split("\n").filter((each) => each.startsWith(`${name}:`)).map((each) => each.slice(name.length + 1).trim());
        const data = line("data").join("\n");
        if (data) yield { name: line("event")[0] ?? "", data: parse(data) };
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/**
 * The address of a file of this service as this page may read it, whatever name the service gave itself.
 * Null for pictures of elsewhere, which are not asked for.
 * @param {string} url
 */
export function own(url) {
  if (/^data:image\/|^blob:/.test(url)) return url;
  const path = /^https?:\/\/[^/]+(\/.*)$/.exec(url)?.[1] ?? (url.startsWith("/") && !url.startsWith("//") ? url : "");
  const isOurs = /^\/(cdn\/)?files\//.test(path);
  return isOurs && (url.startsWith("/") || sameService(url)) ? path : null;
}

/** Whether an address names this service, by the name of this page or by its public one. @param {string} url */
function sameService(url) {
  return [location.origin, publicOrigin()].some((origin) => url.startsWith(`${origin}/`));
}

/** Where a request is told of and deleted, by whichever endpoint. @param {string} id */
export function addressOf(id) {
  return `/queue/requests/${encodeURIComponent(id)}`;
}

/** The page that shows a request of an endpoint. @param {string} endpoint @param {string} id */
export function pageOf(endpoint, id) {
  return `/models/${encodeURI(endpoint)}?request=${encodeURIComponent(id)}`;
}

/** The address by which programs are to call this service. */
export function publicOrigin() {
  return document.body.dataset.origin || location.origin;
}

/**
 * Puts a file where endpoints read it. Where uploads are not offered, it goes into the request itself.
 * @param {Blob} file @param {string} name @returns {Promise<string>}
 */
export async function upload(file, name) {
  try {
    const asked = { content_type: file.type, file_name: name };
    const address = await ask("/rest/storage/upload/initiate", { method: "POST", json: asked });
    const target = new URL(address.upload_url);
    await call(target.pathname + target.search, { method: "PUT", body: file });
    return address.file_url;
  } catch (fault) {
    if (!(fault instanceof Refused) || ![403, 404, 405].includes(fault.status)) throw fault;
    return dataUri(file);
  }
}

/** @param {Blob} file @returns {Promise<string>} */
export function dataUri(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

/** What a data URI holds; the policy of the pages lets nothing fetch one. @param {string} uri */
export function dataContent(uri) {
  const [head, body] = uri.slice("data:".length).split(",", 2);
  const bytes = Uint8Array.from(atob(body), (char) => char.charCodeAt(0));
  return new Blob([bytes], { type: head.split(";")[0] });
}
