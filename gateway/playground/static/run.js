// One request on its way: submitted to the queue, or watched; followed until it ends, also after the page was loaded anew.

import { Refused, ask, call, events } from "./service.js";

/** @typedef {"sending" | "waiting" | "running" | "done" | "failed" | "stopped"} State */
/** @typedef {{url: string, content_type?: string, file_name?: string, width?: number, height?: number}} Picture */
/** @typedef {{message: string, level: string, timestamp: string}} Line */

const CANCELLED = 499;
const MOST_PAUSE_MS = 5000;

/** Tells `change` whenever there is something new of it. */
export class Run extends EventTarget {
  /** @param {string} endpoint @param {Record<string, any>} input */
  constructor(endpoint, input) {
    super();
    this.endpoint = endpoint;
    this.input = input;
    this.id = "";
    /** @type {State} */
    this.state = "sending";
    this.isLost = false; // the service does not answer at the moment
    this.isStopping = false;
    /** @type {number | null} */
    this.position = null;
    /** @type {Line[]} */
    this.logs = [];
    this.step = 0;
    this.steps = 0;
    /** @type {Picture[]} */
    this.previews = [];
    /** @type {any} */
    this.output = null;
    /** @type {Refused | null} */
    this.fault = null;
    this.begunAt = Date.now();
    this.endedAt = 0;
    this.leaving = new AbortController();
  }

  get app() {
    return this.endpoint.split("/").slice(0, 2).join("/");
  }

  get address() {
    return `/queue/${this.app}/requests/${encodeURIComponent(this.id)}`;
  }

  get isEnded() {
    return ["done", "failed", "stopped"].includes(this.state);
  }

  /** Sends it. watch: with previews, for as long as this page is open. @param {boolean} watch */
  async start(watch) {
    try {
      if (watch) await this.watch();
      else {
        const accepted = await ask(`/queue/${this.endpoint}`, { method: "POST", json: this.input });
        this.id = accepted.request_id;
        this.put({ state: "waiting", position: accepted.queue_position });
        if (this.isStopping) await this.stop();
        await this.follow();
      }
    } catch (fault) {
      this.end(fault);
    }
  }

  /** Goes on with one that was sent before. @param {string} id */
  async resume(id) {
    this.id = id;
    this.put({ state: "waiting" });
    try {
      await this.follow();
    } catch (fault) {
      this.end(fault);
    }
  }

  /** Cancels it, wherever it is. */
  async stop() {
    this.isStopping = true;
    this.put({});
    if (!this.id) {
      if (this.state === "waiting") this.leaving.abort(); // a run whose client leaves is ended
      return;
    }
    try {
      await call(`${this.address}/cancel`, { method: "PUT" });
    } catch (fault) {
      if (!(fault instanceof Refused) || fault.status !== 400) this.end(fault); // 400: it has ended meanwhile
    }
  }

  /** Listens no more; a run in the queue goes on. */
  leave() {
    this.leaving.abort();
  }

  async follow() {
    await this.listen();
    if (this.isEnded) return;
    const output = await ask(this.address, { signal: this.leaving.signal });
    this.put({ output, state: "done", endedAt: this.endedAt || Date.now() });
  }

  /** Hears of each change until it is completed; begins anew where the connection is lost. */
  async listen() {
    for (let pause = 250; !this.isEnded; pause = Math.min(2 * pause, MOST_PAUSE_MS)) {
      try {
        const answer = await call(`${this.address}/status/stream?logs=1`, { signal: this.leaving.signal });
        this.logs = []; // a stream begins with all of them
        for await (const { data } of events(answer)) {
          pause = 250;
          this.hear(data);
          if (data.status === "COMPLETED") return;
        }
      } catch (fault) {
        if (this.leaving.signal.aborted || (fault instanceof Refused && !fault.passes)) throw fault;
      }
      this.put({ isLost: true });
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }

  /** @param {any} status */
  hear(status) {
    this.logs = [...this.logs, ...(status.logs ?? [])];
    const step = /\bstep (\d+)\/(\d+)/.exec(this.logs.at(-1)?.message ?? ""); // the log tells it where nobody watches
    if (step && !this.previews.length) [this.step, this.steps] = [Number(step[1]), Number(step[2])];
    const state = status.status === "IN_PROGRESS" || status.status === "COMPLETED" ? "running" : "waiting";
    this.put({ state: this.isEnded ? this.state : state, position: status.queue_position ?? null, isLost: false });
  }

  async watch() {
    this.put({ state: "waiting" });
    const { signal } = this.leaving;
    const answer = await call(`/run/${this.endpoint}/stream`, { method: "POST", json: this.input, signal });
    this.id = answer.headers.get("x-fal-request-id") ?? "";
    this.put({ state: "running" });
    const logs = this.listen().catch(() => {});
    try {
      for await (const { name, data } of events(answer)) {
        if (name === "error") throw new Refused(data.status_code, data);
        if ("step" in data) {
          this.put({ step: data.step, steps: data.steps, previews: data.images.length ? data.images : this.previews });
        } else {
          await Promise.race([logs, new Promise((resolve) => setTimeout(resolve, 500))]); // its last lines
          return this.put({ output: data, state: "done", endedAt: Date.now() });
        }
      }
    } catch (fault) {
      if (fault instanceof Refused || signal.aborted) throw fault;
    }
    await this.follow(); // the stream was lost; how it ended is in the queue
  }

  /** @param {unknown} fault */
  end(fault) {
    if (this.isEnded) return;
    const refused = fault instanceof Refused ? fault : null;
    const stopped = this.leaving.signal.aborted || refused?.status === CANCELLED;
    if (!stopped && !refused) console.error(fault);
    this.put({
      state: stopped ? "stopped" : "failed",
      fault: refused ?? new Refused(0, { detail: String(fault) }),
      endedAt: this.endedAt || Date.now(),
    });
  }

  /** @param {Partial<Run>} news */
  put(news) {
    Object.assign(this, news);
    this.dispatchEvent(new Event("change"));
  }
}

/** The median of how long the last runs of an endpoint took, in seconds; null where there are none. @param {string} endpoint */
export async function usualSeconds(endpoint) {
  try {
    const page = await ask(`/queue/requests?limit=20&endpoint_id=${encodeURIComponent(endpoint)}`, { quiet: true });
    const drawn = page.requests.filter((/** @type {any} */ each) => each.outcome === "ok");
    const seconds = drawn
      .map((/** @type {any} */ each) => (Date.parse(each.finished_at) - Date.parse(each.started_at)) / 1000)
      .sort((/** @type {number} */ one, /** @type {number} */ other) => one - other);
    return seconds.length ? seconds[Math.floor(seconds.length / 2)] : null;
  } catch {
    return null; // it only helps to wait
  }
}
