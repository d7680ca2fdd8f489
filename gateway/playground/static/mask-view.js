// A picture under a brush: zoomed and moved, with what mouse, pen and fingers do to it.

/** stroke: begins one at a place of the picture; extend: goes on with it; end: it is done; drop: takes it back, for it was none.
 * tool: what is chosen. tip: the brush is over a place.
 * @typedef {object} Hand
 * @property {(x: number, y: number, erases: boolean) => void} stroke
 * @property {(x: number, y: number) => void} extend
 * @property {() => void} end
 * @property {() => void} drop
 * @property {(x: number, y: number) => void} tip
 * @property {() => "brush" | "eraser" | "move"} tool
 */

const MOST = 32; // screen pixels to one of the picture
const STEP = 1.0015; // of the zoom, to a pixel of the wheel

export class View {
  /** @param {HTMLElement} stage What is seen. @param {HTMLElement} sheet What lies on it, in pixels of the picture.
   * @param {Hand} hand */
  constructor(stage, sheet, hand) {
    this.stage = stage;
    this.sheet = sheet;
    this.hand = hand;
    this.width = this.height = 1; // of the picture
    this.scale = this.least = 1;
    this.left = this.top = 0;
    /** @type {Map<number, PointerEvent>} */
    this.pointers = new Map();
    /** @type {"stroke" | "move" | ""} */
    this.doing = "";
    stage.addEventListener("pointerdown", (event) => this.down(event));
    stage.addEventListener("pointermove", (event) => this.moved(event));
    for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) {
      stage.addEventListener(name, (event) => this.up(/** @type {PointerEvent} */ (event)));
    }
    stage.addEventListener("contextmenu", (event) => event.preventDefault()); // the right button moves
    stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(STEP ** -(event.deltaY * (event.ctrlKey ? 6 : event.deltaMode ? 30 : 1)), event.clientX, event.clientY);
    }, { passive: false });
  }

  /** @param {number} width @param {number} height Of the picture. */
  fit(width = this.width, height = this.height) {
    [this.width, this.height] = [width, height];
    const { clientWidth: wide, clientHeight: tall } = this.stage;
    this.scale = this.least = Math.min(wide / width, tall / height, MOST);
    [this.left, this.top] = [(wide - width * this.scale) / 2, (tall - height * this.scale) / 2];
    this.draw();
  }

  /** @param {number} by @param {number} [x] @param {number} [y] What stays where it is; the middle without them. */
  zoom(by, x, y) {
    const stage = this.stage.getBoundingClientRect();
    const [across, down] = [(x ?? stage.left + stage.width / 2) - stage.left, (y ?? stage.top + stage.height / 2) - stage.top];
    const scale = Math.min(Math.max(this.scale * by, this.least / 2), MOST);
    this.left = across - ((across - this.left) * scale) / this.scale;
    this.top = down - ((down - this.top) * scale) / this.scale;
    this.scale = scale;
    this.draw();
  }

  /** @param {number} across @param {number} down In pixels of the screen. */
  move(across, down) {
    const { clientWidth: wide, clientHeight: tall } = this.stage;
    const within = (/** @type {number} */ at, /** @type {number} */ long, /** @type {number} */ room) => Math.min(Math.max(at, 40 - long), room - 40);
    this.left = within(this.left + across, this.width * this.scale, wide);
    this.top = within(this.top + down, this.height * this.scale, tall);
    this.draw();
  }

  /** Moves so far that a place of the picture is seen. @param {number} x @param {number} y */
  reveal(x, y) {
    const { clientWidth: wide, clientHeight: tall } = this.stage;
    const past = (/** @type {number} */ at, /** @type {number} */ room) => Math.max(30 - at, 0) - Math.max(at - room + 30, 0);
    const [across, down] = [past(this.left + x * this.scale, wide), past(this.top + y * this.scale, tall)];
    if (across || down) this.move(across, down);
  }

  draw() {
    this.sheet.style.transform = `translate(${this.left}px, ${this.top}px) scale(${this.scale})`;
    this.sheet.style.setProperty("--pixel", `${1 / this.scale}px`); // of the screen
  }

  /** Where in the picture something of the screen is. @param {{clientX: number, clientY: number}} at @returns {[number, number]} */
  place({ clientX, clientY }) {
    const { left, top } = this.stage.getBoundingClientRect();
    return [(clientX - left - this.left) / this.scale, (clientY - top - this.top) / this.scale];
  }

  /** @param {PointerEvent} event */
  down(event) {
    if (this.pointers.size > 1) return;
    this.stage.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, event);
    if (this.pointers.size === 2) {
      if (this.doing === "stroke") this.hand.drop(); // the first of two fingers has painted nothing
      this.doing = "move";
      return;
    }
    const tool = this.hand.tool();
    const erases = tool === "eraser" || event.button === 5; // the other end of a pen
    this.doing = event.button === 1 || event.button === 2 || (tool === "move" && !erases) ? "move" : "stroke";
    if (this.doing === "stroke") this.hand.stroke(...this.place(event), erases);
  }

  /** @param {PointerEvent} event */
  moved(event) {
    this.hand.tip(...this.place(event));
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    if (this.doing === "stroke") {
      const all = event.getCoalescedEvents?.() ?? [];
      for (const each of all.length ? all : [event]) this.hand.extend(...this.place(each));
    } else if (this.doing === "move") {
      const other = [...this.pointers.entries()].find(([id]) => id !== event.pointerId)?.[1];
      const share = other ? 0.5 : 1; // the middle of two fingers goes half as far as one of them
      this.move((event.clientX - before.clientX) * share, (event.clientY - before.clientY) * share);
      if (other) this.pinch(other, before, event);
    }
    this.pointers.set(event.pointerId, event);
  }

  /** @param {PointerEvent} other @param {PointerEvent} before @param {PointerEvent} after */
  pinch(other, before, after) {
    const far = (/** @type {PointerEvent} */ each) => Math.hypot(each.clientX - other.clientX, each.clientY - other.clientY);
    this.zoom(far(after) / Math.max(far(before), 1), (after.clientX + other.clientX) / 2, (after.clientY + other.clientY) / 2);
  }

  /** @param {PointerEvent} event */
  up(event) {
    if (this.pointers.delete(event.pointerId) && !this.pointers.size) this.release();
  }

  /** Ends what pointers do: of those on a picture that is closed no end may be told. */
  release() {
    this.pointers.clear();
    if (this.doing === "stroke") this.hand.end();
    this.doing = "";
  }
}
