// What a request of the history tells: how it ended, from what it was drawn, how long that took, what of it can be drawn again.

import { drafts } from "./drafts.js";

/**
 * @typedef {object} Entry
 * @property {string} request_id
 * @property {string} endpoint_id
 * @property {"IN_QUEUE" | "IN_PROGRESS" | "COMPLETED"} status
 * @property {"ok" | "error" | "cancelled" | null} outcome
 * @property {string | null} error
 * @property {string | null} error_type
 * @property {string} created_at
 * @property {string | null} started_at
 * @property {string | null} finished_at
 */
/**
 * @typedef {object} Shown
 * @property {boolean} stored
 * @property {Record<string, any> | null} input
 * @property {string[]} inactive
 * @property {(number | bigint)[]} seeds
 * @property {any} output
 * @property {import("./run.js").Line[]} logs
 */
/** @typedef {Entry & Shown} RequestRecord */

const WORDS = { IN_QUEUE: "waiting", IN_PROGRESS: "drawing", ok: "drawn", error: "failed", cancelled: "stopped" };
const SHORTENED = /^data:[^,]*,?…$/; // what the history keeps of a picture inside a request

/** @param {Entry} entry */
export function stateOf({ status, outcome }) {
  return outcome ?? status;
}

/** @param {Entry} entry */
export function wordOf(entry) {
  return WORDS[/** @type {keyof typeof WORDS} */ (stateOf(entry))] ?? stateOf(entry);
}

/** @param {Entry} entry */
export function isOpen({ status }) {
  return status !== "COMPLETED";
}

/** @param {RequestRecord} record @returns {import("./run.js").Picture[]} */
export function picturesOf({ outcome, output }) {
  return outcome === "ok" ? output?.images ?? [] : [];
}

/** Its texts as they were drawn, of each picture; the log tells them. @param {RequestRecord} record @returns {[string, string][]} */
export function textsOf({ logs, output, outcome }) {
  const told = logs.map(({ message }) => /^((?:Negative prompt|Prompt)[^:\n]*): ([^]*)$/.exec(message)).filter((found) => found !== null);
  if (told.length) return told.map(([, title, text]) => [title, text]);
  return outcome === "ok" && output?.prompt ? [["Prompt", output.prompt]] : [];
}

/** Seconds that it waited and was drawn; null for what has not been yet. @param {Entry} entry */
export function timesOf({ created_at: created, started_at: started, finished_at: finished }) {
  const between = (/** @type {string | null} */ from, /** @type {string | null} */ to) =>
    from && to ? Math.max(0, (Date.parse(to) - Date.parse(from)) / 1000) : null;
  return { waiting: between(created, started ?? finished), drawing: between(started, finished) };
}

/** What was sent, as far as it can be sent again: pictures that were inside the request are no more. @param {any} value @returns {any} */
export function sendable(value) {
  if (typeof value === "string") return SHORTENED.test(value) ? undefined : value;
  if (Array.isArray(value)) return value.map(sendable).filter((each) => each !== undefined);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, sendable(each)]).filter(([, each]) => each !== undefined));
}

/** @type {Record<string, (record: RequestRecord) => Record<string, any>>} */
const PARTS = {
  all: ({ input, seeds }) => ({ ...sendable(input), seed: seeds[0] }),
  prompt: ({ input }) => ({ prompt: input?.prompt, negative_prompt: input?.negative_prompt }),
  seed: ({ seeds }) => ({ seed: seeds[0] }),
};

/** Puts a part of it into the form of its endpoint, and opens that. @param {RequestRecord} record @param {keyof typeof PARTS} part */
export function remix(record, part) {
  const endpoint = record.endpoint_id;
  const others = part === "all" ? {} : drafts.get(endpoint);
  const input = Object.entries({ ...others, ...PARTS[part](record) }).filter(([, value]) => value !== undefined);
  drafts.put(endpoint, Object.fromEntries(input));
  location.assign(`/models/${endpoint}`);
}

/** Puts a picture of it where it is to be used. @param {RequestRecord} record @param {{endpoint: string, input: Record<string, any>}} wanted */
export function use(record, { endpoint, input }) {
  drafts.handOn(endpoint, sendable(record.input ?? {}), input);
  location.assign(`/models/${endpoint}`);
}
