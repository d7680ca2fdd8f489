// What becomes of a request: where it stands, how long it takes, its log, its pictures.

import { fill, make, spelled } from "./dom.js";
import { facts, stages } from "./facts.js";
import { Pictures } from "./pictures.js";
import { Run, usualSeconds } from "./run.js";

const TICK_MS = 200;

export class Drawing extends HTMLElement {
  constructor() {
    super();
    /** @type {Run | null} */
    this.run = null;
    /** @type {number | null} */
    this.usual = null;
    this.timer = 0;
    this.said = make("p", { class: "state", role: "status" });
    this.time = make("p", { class: "time" });
    this.bar = make("progress", { max: 1, "aria-label": "How far it is" });
    this.stop = make("button", { type: "button", class: "stop", text: "Stop", onclick: () => this.run?.stop() });
    this.pictures = new Pictures();
    this.empty = make("div", { class: "empty" }, make("i", { "aria-hidden": "true" }), make("p", { text: "Pictures appear here." }));
    this.facts = make("dl", { class: "facts" });
    this.log = make("ol", { class: "log", tabindex: "0", "aria-label": "Log" });
    this.lines = make("details", { class: "lines" }, make("summary", { text: "Log" }), this.log);
    const head = make("div", { class: "head" }, make("div", {}, this.said, this.time), this.stop);
    fill(this, head, this.bar, this.empty, this.pictures, this.facts, this.lines);
    this.heard = () => this.draw();
    this.isDrawn = false; // whether the pictures of its end are shown
    this.draw();
  }

  /** @param {Run} run */
  show(run) {
    this.run?.removeEventListener("change", this.heard);
    this.run?.leave();
    this.run = run;
    this.isDrawn = false;
    run.addEventListener("change", this.heard);
    usualSeconds(run.endpoint).then((seconds) => (this.usual = seconds));
    clearInterval(this.timer);
    this.timer = setInterval(() => this.tick(), TICK_MS);
    this.pictures.show([]);
    this.draw();
  }

  draw() {
    const { run } = this;
    this.hidden = false;
    this.dataset.state = run?.state ?? "idle";
    this.stop.hidden = !run || run.isEnded;
    this.bar.hidden = !run || run.isEnded;
    this.lines.hidden = !run?.logs.length;
    this.facts.hidden = true;
    if (!run) {
      this.said.textContent = "Nothing is being drawn.";
      return;
    }
    this.stop.disabled = run.isStopping;
    this.said.textContent = told(run);
    this.empty.hidden = Boolean(run.output || run.previews.length);
    fill(this.log, ...run.logs.map(({ message, level }) => make("li", { class: level.toLowerCase(), text: message })));
    if (run.output && !this.isDrawn) this.result(run);
    else if (!run.isEnded && run.previews.length) this.preview(run);
    this.facts.hidden = !run.output;
    this.tick();
    if (run.isEnded) clearInterval(this.timer);
  }

  /** @param {Run} run */
  preview(run) {
    this.pictures.dataset.count = String(run.previews.length);
    fill(this.pictures, ...run.previews.map(({ url }) => make("figure", {}, make("img", { class: "preview", src: url, alt: "Preview" }))));
  }

  /** @param {Run} run */
  result(run) {
    this.isDrawn = true;
    const { images, has_nsfw_concepts: flagged, seed, prompt, timings } = run.output;
    this.pictures.show(images, flagged);
    fill(this.facts, ...facts([["Seed", seed], ["Prompt as drawn", prompt], ["Request", run.id], ["Timings", stages(timings)]]));
  }

  tick() {
    const { run } = this;
    if (!run) return;
    const elapsed = ((run.endedAt || Date.now()) - run.begunAt) / 1000;
    const usual = this.usual === null || run.isEnded ? "" : ` · usually ${spelled(this.usual)}`;
    this.time.textContent = `${spelled(Math.max(0, elapsed))}${usual}`;
    if (run.steps) this.bar.value = run.step / run.steps;
    else this.bar.removeAttribute("value");
  }
}

/** @param {Run} run */
function told(run) {
  if (run.isLost && !run.isEnded) return "The service does not answer; it is asked again …";
  if (run.isStopping && !run.isEnded) return "Stopping …";
  switch (run.state) {
    case "sending":
      return "Sending …";
    case "waiting":
      return run.position ? `Waiting: ${run.position} before it` : "Waiting for its turn …";
    case "running":
      return run.steps ? `Drawing: step ${run.step} of ${run.steps}` : "Drawing …";
    case "stopped":
      return "Stopped.";
    case "failed":
      return run.fault?.faults.length ? "The input cannot be drawn; see the marked fields." : `${run.fault?.message}`;
    default:
      return "Drawn.";
  }
}

customElements.define("fs-drawing", Drawing);
