// The mask painter: a dialog over a picture, in which people paint what is to be drawn anew. Brought when it is opened.

import { fill, make, uniqueId } from "./dom.js";
import { Mask } from "./mask.js";
import { View } from "./mask-view.js";

/** @typedef {"brush" | "eraser" | "move"} Tool */
/** @type {[Tool, string, string][]} */
const TOOLS = [["brush", "Brush", "b"], ["eraser", "Eraser", "e"], ["move", "Move", "m"]];
const CLOSER = 1.25;
const ARROWS = new Map([["ArrowLeft", [-1, 0]], ["ArrowRight", [1, 0]], ["ArrowUp", [0, -1]], ["ArrowDown", [0, 1]]]);
const HELP =
  "Keys: B, E, M choose a tool, [ and ] the size, Ctrl Z undoes, + − 0 zoom, I inverts. On the picture arrows move the brush, Space paints, Shift with arrows draws, Ctrl with arrows moves the picture.";

export class Painter extends HTMLElement {
  constructor() {
    super();
    const button = (/** @type {string} */ text, /** @type {() => void} */ onclick, title = text, kind = "") =>
      make("button", { type: "button", class: kind, text, onclick, title, "aria-label": title });
    const name = uniqueId();
    this.tools = TOOLS.map(([tool]) => make("input", { type: "radio", name, value: tool, onchange: () => this.tip() }));
    const labels = TOOLS.map(([, text], at) => make("label", {}, this.tools[at], make("span", { text })));
    this.size = make("input", { type: "range", min: 1, max: 512, step: 1, "aria-label": "Size of the brush", oninput: () => this.tip() });
    this.back = button("Undo", () => this.change((mask) => mask.undo()));
    this.forth = button("Redo", () => this.change((mask) => mask.redo()));
    const tools = make(
      "div", { class: "tools", role: "group", "aria-label": "Tools" },
      make("div", { class: "segments", role: "radiogroup", "aria-label": "Tool" }, ...labels),
      make("label", { class: "size" }, "Size", this.size), this.back, this.forth,
      button("Invert", () => this.change((mask) => mask.add({ kind: "invert" }))),
      button("Clear", () => this.change((mask) => mask.add({ kind: "clear" }))),
      button("−", () => this.view.zoom(1 / CLOSER), "Smaller"), button("+", () => this.view.zoom(CLOSER), "Larger"),
      button("Fit", () => this.view.fit(), "Fit all of the picture"),
    );
    const hint = uniqueId();
    this.sheet = make("div", { class: "sheet" });
    this.brush = make("i", { class: "tip", "aria-hidden": "true" });
    this.stage = make("div", { class: "easel", tabindex: "0", role: "application", "aria-label": "Mask", "aria-describedby": hint }, this.sheet);
    this.said = make("p", { class: "unseen", role: "status" });
    this.dialog = make(
      "dialog", { class: "painter", "aria-label": "Paint what is to be drawn anew" },
      tools, this.stage, this.said,
      make("div", { class: "bar" }, make("p", { id: hint, class: "hint", text: HELP }),
        button("Close", () => this.dialog.close(), "Close", "quiet"), button("Use this mask", () => this.finish(), "Use this mask", "primary")),
    );
    this.view = new View(this.stage, this.sheet, {
      stroke: (x, y, erases) => this.stroke(x, y, erases),
      extend: (x, y) => this.mask.extend(x, y),
      end: () => this.change((mask) => mask.end()),
      drop: () => this.change((mask) => mask.drop()),
      tip: (x, y) => this.tip(x, y),
      tool: () => this.tool,
    });
    this.dialog.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.dialog.open && this.view.fit()).observe(this.stage);
    this.x = this.y = 0; // where the brush is
    this.mask = new Mask(1, 1);
    this.of = ""; // what the mask belongs to
    /** @type {(mask: Blob | null) => void} */
    this.use = () => {};
    fill(this, this.dialog);
  }

  /** Paints over a picture; what was painted over the same one, and closed, is still there.
   * @param {HTMLImageElement} picture @param {HTMLImageElement | null} before A mask to go on with.
   * @param {string} of Names both. @param {(mask: Blob | null) => void} use Takes the mask, null where nothing is marked. */
  open(picture, before, of, use) {
    const { naturalWidth: width, naturalHeight: height } = picture;
    this.view.release();
    this.use = use;
    if (of !== this.of) {
      this.mask = new Mask(width, height);
      if (before) this.mask.load(before);
      this.of = of;
      this.tool = "brush";
      this.size.max = String(Math.ceil(Math.max(width, height) / 2));
      this.size.value = String(Math.ceil(Math.max(width, height) / 12));
    }
    fill(this.sheet, make("img", { src: picture.src, alt: "", draggable: "false", width, height }), this.mask.canvas, this.brush);
    this.dialog.showModal();
    this.stage.focus();
    this.view.fit(width, height);
    this.change(() => {});
    this.tip(width / 2, height / 2);
  }

  get tool() {
    return /** @type {Tool} */ (this.tools.find((each) => each.checked)?.value);
  }

  set tool(tool) {
    for (const each of this.tools) each.checked = each.value === tool;
    this.tip();
  }

  /** @param {(mask: Mask) => void} how */
  change(how) {
    how(this.mask);
    this.back.disabled = !this.mask.running && !this.mask.done.length;
    this.forth.disabled = !this.mask.undone.length;
  }

  /** @param {number} x @param {number} y @param {boolean} erases */
  stroke(x, y, erases) {
    this.change((mask) => mask.begin({ kind: "stroke", erases, size: Number(this.size.value), points: [x, y] }));
  }

  /** Shows the brush, at its last place without another, and says what it is or what is told instead. */
  tip(x = this.x, y = this.y, told = this.tool === "move" ? "Move" : `${this.tool}, ${this.size.value} pixels`) {
    [this.x, this.y] = [x, y];
    this.brush.hidden = this.tool === "move";
    for (const side of /** @type {const} */ (["width", "height"])) this.brush.style[side] = `${this.size.value}px`;
    this.brush.style.translate = `calc(${x}px - 50%) calc(${y}px - 50%)`;
    if (this.said.textContent !== told) this.said.textContent = told; // what is set is read out, each time
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const letter = event.key.toLowerCase();
    const goes = ARROWS.get(event.key);
    const tool = TOOLS.find(([, , each]) => each === letter)?.[0];
    const isOnPicture = event.target === this.stage;
    if (event.ctrlKey || event.metaKey) {
      if (letter === "y" || (letter === "z" && event.shiftKey)) this.forth.click();
      else if (letter === "z") this.back.click();
      else if (goes && isOnPicture) this.view.move(-60 * goes[0], -60 * goes[1]);
      else return;
    } else if (event.altKey) return;
    else if (tool) this.tool = tool;
    else if (letter === "[" || letter === "]") this.resize(letter === "]" ? CLOSER : 1 / CLOSER);
    else if (letter === "+" || letter === "=") this.view.zoom(CLOSER);
    else if (letter === "-") this.view.zoom(1 / CLOSER);
    else if (letter === "0") this.view.fit();
    else if (letter === "i") this.change((mask) => mask.add({ kind: "invert" }));
    else if (letter === " " && isOnPicture) this.dab();
    else if (goes && isOnPicture) this.go(goes, event.shiftKey);
    else return;
    event.preventDefault();
  }

  /** @param {number} by */
  resize(by) {
    const size = Number(this.size.value);
    this.size.value = String(by > 1 ? Math.max(size + 1, Math.round(size * by)) : Math.min(size - 1, Math.round(size * by)));
    this.tip();
  }

  /** Moves the brush by keys. @param {number[]} goes @param {boolean} draws */
  go([across, down], draws) {
    const step = Math.max(1, Math.round(Number(this.size.value) / 4));
    const within = (/** @type {number} */ at, /** @type {number} */ most) => Math.min(Math.max(at, 0), most);
    const { width, height } = this.mask.canvas;
    const [x, y] = [within(this.x + across * step, width), within(this.y + down * step, height)];
    if (draws) this.dab([x, y]);
    this.tip(x, y, `${Math.round(x)} from the left, ${Math.round(y)} from the top`);
    this.view.reveal(x, y);
  }

  /** Paints where the brush is. @param {[number, number]} [to] And as far as there. */
  dab(to) {
    this.stroke(this.x, this.y, this.tool === "eraser");
    if (to) this.mask.extend(...to);
    this.change((mask) => mask.end());
  }

  async finish() {
    const mask = await this.mask.file();
    this.dialog.close();
    this.use(mask);
  }
}

customElements.define("fs-painter", Painter);
