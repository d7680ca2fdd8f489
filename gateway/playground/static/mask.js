// A mask as large as its picture: what was done to it, undone and done again, read from a picture and written as one.

import { make } from "./dom.js";

/** @typedef {import("./reads.js").Span} Span */
/** points: x and y in turn, in pixels of the picture. @typedef {{kind: "stroke", erases: boolean, size: number, points: number[]}} Stroke */
/** @typedef {Stroke | {kind: "invert"} | {kind: "clear"}} Deed */

const COLOUR = "#ff3d81"; // on the picture; in the file it is white
const [OPAQUE, WHITE, BLACK] = [0xff813dff, 0xffffffff, 0xff000000]; // of a pixel: alpha, blue, green, red
const MOST_UNDONE = 60;
const STRIP = 256; // rows that are read at a time
const HALF = 127; // levels above it are drawn anew, as the service has it

export class Mask {
  /** @param {number} width @param {number} height */
  constructor(width, height) {
    this.canvas = make("canvas", { width, height });
    this.pen = pen(this.canvas);
    this.base = make("canvas", { width, height }); // what can no more be undone
    /** @type {Deed[]} */
    this.done = [];
    /** @type {Deed[]} */
    this.undone = [];
    /** @type {Stroke | null} */
    this.running = null; // which is painted just now, and is no deed before it ends
  }

  /** Begins with what a mask marks that was made before. @param {HTMLImageElement} mask */
  load(mask) {
    const { width, height } = this.canvas;
    for (const { top, levels, pixels } of strips(mask, width, height)) {
      const whole = new Uint32Array(pixels.data.buffer);
      for (let at = 0; at < levels.length; at += 1) whole[at] = levels[at] > HALF ? OPAQUE : 0;
      pen(this.base).putImageData(pixels, 0, top);
    }
    this.draw();
  }

  /** @param {Deed} deed */
  add(deed) {
    this.end();
    carry(this.pen, deed);
    this.keep(deed);
  }

  /** @param {Deed} deed */
  keep(deed) {
    this.done.push(deed);
    this.undone = [];
    if (this.done.length > MOST_UNDONE) carry(pen(this.base), /** @type {Deed} */ (this.done.shift()));
  }

  /** @param {Stroke} stroke */
  begin(stroke) {
    this.end();
    this.running = stroke;
    carry(this.pen, stroke);
  }

  /** Goes on with the stroke that is running; without one, with none. @param {number} x @param {number} y */
  extend(x, y) {
    if (!this.running) return;
    const { points } = this.running;
    points.push(x, y);
    carry(this.pen, this.running, points.length - 4);
  }

  /** Keeps the stroke that is running. */
  end() {
    const stroke = this.running;
    this.running = null;
    if (stroke) this.keep(stroke);
  }

  undo() {
    this.end();
    const deed = this.done.pop();
    if (deed) this.undone.push(deed);
    this.draw();
  }

  redo() {
    this.end();
    const deed = this.undone.pop();
    if (!deed) return;
    this.done.push(deed);
    carry(this.pen, deed);
  }

  /** Takes the stroke that is running back as if it had not been. */
  drop() {
    this.running = null;
    this.draw();
  }

  draw() {
    carry(this.pen, { kind: "clear" });
    this.pen.drawImage(this.base, 0, 0);
    for (const deed of this.done) carry(this.pen, deed);
  }

  /** As a PNG of white and black alone; null where nothing is marked. @returns {Promise<Blob | null>} */
  async file() {
    const { width, height } = this.canvas;
    const file = make("canvas", { width, height });
    let isMarked = false;
    for (let top = 0; top < height; top += STRIP) {
      const pixels = this.pen.getImageData(0, top, width, Math.min(STRIP, height - top));
      const whole = new Uint32Array(pixels.data.buffer);
      for (let at = 0; at < whole.length; at += 1) {
        const marks = whole[at] >>> 24 > HALF;
        isMarked ||= marks;
        whole[at] = marks ? WHITE : BLACK;
      }
      pen(file).putImageData(pixels, 0, top);
    }
    return isMarked ? new Promise((resolve) => file.toBlob(resolve, "image/png")) : null;
  }
}

/** What a mask marks of a picture of that size, or leaves out; null for nothing. @returns {Span | null}
 * @param {HTMLImageElement} mask @param {number} width @param {number} height @param {boolean} inverted */
export function spanOf(mask, width, height, inverted) {
  /** @type {Span} */
  const { rows, columns } = { rows: [height, -1], columns: [width, -1] };
  for (const { top, levels } of strips(mask, width, height)) {
    for (let at = 0; at < levels.length; at += 1) {
      if (levels[at] > HALF === inverted) continue;
      const [row, column] = [top + Math.floor(at / width), at % width];
      if (row < rows[0]) rows[0] = row;
      rows[1] = row;
      if (column < columns[0]) columns[0] = column;
      if (column > columns[1]) columns[1] = column;
    }
  }
  return rows[1] < 0 ? null : { rows, columns };
}

/** @param {HTMLCanvasElement} canvas */
function pen(canvas) {
  return /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
}

/** A mask at a picture's size, as the service reads it: on white, the mean of its colours; some rows at a time.
 * @param {HTMLImageElement} mask @param {number} width @param {number} height */
function* strips(mask, width, height) {
  const strip = pen(make("canvas", { width, height: STRIP }));
  strip.imageSmoothingQuality = "high";
  for (let top = 0; top < height; top += STRIP) {
    strip.fillStyle = "#fff";
    strip.fillRect(0, 0, width, STRIP);
    strip.drawImage(mask, 0, -top, width, height);
    const pixels = strip.getImageData(0, 0, width, Math.min(STRIP, height - top));
    const { data } = pixels;
    const levels = new Float32Array(data.length / 4);
    for (let at = 0; at < levels.length; at += 1) levels[at] = (data[4 * at] + data[4 * at + 1] + data[4 * at + 2]) / 3;
    yield { top, levels, pixels };
  }
}

/** Does a deed. from: the point of a stroke to go on at. @param {CanvasRenderingContext2D} on @param {Deed} deed */
function carry(on, deed, from = 0) {
  const { width, height } = on.canvas;
  if (deed.kind === "clear") return on.clearRect(0, 0, width, height);
  on.fillStyle = on.strokeStyle = COLOUR;
  // of what lies there, source-out leaves what it is not; destination-out takes away
  on.globalCompositeOperation = deed.kind === "invert" ? "source-out" : deed.erases ? "destination-out" : "source-over";
  if (deed.kind === "invert") on.fillRect(0, 0, width, height);
  else stroke(on, deed, from);
  on.globalCompositeOperation = "source-over";
}

/** @param {CanvasRenderingContext2D} on @param {Stroke} deed @param {number} from */
function stroke(on, { size, points }, from) {
  on.lineWidth = size;
  on.lineCap = "round";
  if (!from) {
    on.beginPath();
    on.arc(points[0], points[1], size / 2, 0, 2 * Math.PI);
    on.fill();
  }
  for (let at = from; at + 3 < points.length; at += 2) {
    on.beginPath();
    on.moveTo(points[at], points[at + 1]);
    on.lineTo(points[at + 2], points[at + 3]);
    on.stroke();
  }
}
