// What runs here, for who operates it: asked again and again while somebody looks.

import { fill, make } from "./dom.js";
import { ADDRESS } from "./key.js";
import { Report } from "./report.js";
import { Refused, ask, asking } from "./service.js";

const EVERY_MS = 5000;
const ANSWER_MS = 10_000;

export class ServiceStatus extends HTMLElement {
  constructor() {
    super();
    this.timer = 0;
    this.isAsking = false;
    this.isWanted = false; // once more, for something has changed while it was asked
    this.wasAsked = false; // for a key
    this.leaving = new AbortController();
    this.seen = make("time", {});
    this.asOf = make("p", { class: "hint", hidden: true }, "As of ", this.seen, `, renewed every ${EVERY_MS / 1000} s while this page is looked at.`);
    this.said = make("p", { class: "error", role: "status" });
    this.enter = make("a", { class: "button", href: ADDRESS, text: "Enter a key", hidden: true });
    this.report = new Report();
    this.report.hidden = true;
    fill(this, make("div", { class: "head" }, make("h1", { text: "Status" }), this.asOf), this.said, this.enter, this.report);
  }

  connectedCallback() {
    const { signal } = this.leaving;
    document.addEventListener("visibilitychange", () => this.look(), { signal });
    window.addEventListener("key", () => this.look(), { signal });
    this.look();
  }

  disconnectedCallback() {
    this.leaving.abort();
    clearTimeout(this.timer);
  }

  /** Asks now, and then every few seconds for as long as the page is seen and the key does. */
  async look() {
    clearTimeout(this.timer);
    this.isWanted = this.isAsking;
    if (this.isAsking || document.visibilityState === "hidden") return;
    this.isAsking = true;
    this.ariaBusy = "true";
    const goesOn = await this.renew();
    this.isAsking = false;
    this.ariaBusy = "false";
    this.dataset.ready = "";
    if (this.leaving.signal.aborted) return;
    if (this.isWanted) this.look();
    else if (goesOn) this.timer = setTimeout(() => this.look(), EVERY_MS);
  }

  /** Whether to ask again. @returns {Promise<boolean>} */
  async renew() {
    const signal = AbortSignal.any([this.leaving.signal, AbortSignal.timeout(ANSWER_MS)]);
    try {
      const told = await ask("/status", { quiet: true, headers: { accept: "application/json" }, signal });
      this.report.show(told);
      this.seen.dateTime = told.at;
      this.seen.textContent = new Date(told.at).toLocaleTimeString();
      this.tell("", true);
      return true;
    } catch (fault) {
      return this.refuse(fault);
    }
  }

  /** @param {unknown} fault @returns {boolean} */
  refuse(fault) {
    const { status, message } = fault instanceof Refused ? fault : new Refused(0, { detail: "The service does not answer." });
    if (status !== 401 && status !== 403) {
      const old = this.report.hidden ? "" : ` What is shown is of ${this.seen.textContent}.`;
      this.tell(`${message}${old} It is asked again every ${EVERY_MS / 1000} s.`, !this.report.hidden);
      return true;
    }
    this.tell(status === 403 ? `${message} This page is for keys that have it: they are made with --scope admin.` : message, false);
    this.enter.hidden = false;
    if (status === 401 && !this.wasAsked) asking.key();
    this.wasAsked = true;
    return false;
  }

  /** @param {string} text What is wrong. @param {boolean} isShown Whether what was told may be seen. */
  tell(text, isShown) {
    if (this.said.textContent !== text) this.said.textContent = text; // said aloud once
    this.enter.hidden = true;
    this.report.hidden = this.asOf.hidden = !isShown;
  }
}

customElements.define("fs-status", ServiceStatus);
