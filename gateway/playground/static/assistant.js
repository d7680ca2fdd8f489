// What helps with pictures that go in: what of them is read, sides to continue, a mask to paint, settings that they tell.
// It is brought with the first picture, and its styles with it.

import { fill, make } from "./dom.js";
import { Edges } from "./edges.js";
import { ImageField } from "./field-image.js";
import { GroupField } from "./field-parts.js";
import { spanOf } from "./mask.js";
import { areaOf, continued, covering, grown, reading, repaints, sizeDrawn, whole } from "./reads.js";
import { WITH } from "./schema.js";

/** @typedef {import("./form.js").RequestForm} RequestForm */
/** @typedef {import("./painter.js").Painter} Painter */
/** @typedef {import("./reads.js").Box} Box */
/** box: null where there is nothing to outline. @typedef {{box: Box | null, text: string}} Told */

const NOTHING = { box: null, text: "" };
const WHERE = ["PyraCanny", "CPDS"]; // types that show where things are, which are cut; the others are read whole

await new Promise((resolve) => {
  const href = new URL("./assistant.css", import.meta.url).href;
  document.head.append(make("link", { rel: "stylesheet", href, onload: resolve, onerror: resolve }));
});

export class Assistant {
  /** @param {RequestForm} form */
  constructor(form) {
    this.form = form;
    this.fields = new Map(form.fields.map((each) => [each.field.name, each]));
    this.required = new Set(form.fields.filter(({ field }) => field.required).map(({ field }) => field.name));
    this.isDue = false;
    /** @type {Painter | null} */
    this.painter = null;
    /** @type {File | null} */
    this.dropped = null; // the last one beside the fields
    /** @type {{of: string, span: import("./reads.js").Span | null}} */
    this.known = { of: "", span: null }; // what the last mask marks
    this.mask = this.image("mask_image_url");
    this.canvas = this.image(WITH.get("mask_image_url") ?? ""); // the picture to change
    const sides = this.fields.get("outpaint_selections");
    this.edges = sides ? new Edges(sides.field.options) : null;
    this.edges?.addEventListener("edge", (event) => this.turn(/** @type {CustomEvent} */ (event).detail));
    this.paint = make("button", { type: "button", class: "paint", text: "Paint the mask", onclick: () => this.open() });
    this.mask?.removal.before(this.paint);
    form.addEventListener("load", () => this.update(), true); // of pictures
    form.addEventListener("change", () => this.update());
    this.update();
  }

  /** @param {string} name */
  image(name) {
    const control = this.fields.get(name)?.control;
    return control instanceof ImageField ? control : null;
  }

  /** All values of the form, those too that keep to their defaults. @returns {Record<string, any>} */
  get values() {
    return Object.fromEntries([...this.fields].map(([name, { control, field }]) => [name, control.value ?? field.initial]));
  }

  /** Soon, once, however many fields change. */
  update() {
    if (this.isDue) return;
    this.isDue = true;
    queueMicrotask(() => {
      this.isDue = false;
      this.draw();
    });
  }

  draw() {
    const { values, canvas } = this;
    const whole = canvas && seen(canvas);
    this.paint.hidden = !whole;
    if (this.edges && canvas && whole) {
      const holder = /** @type {HTMLElement} */ (whole.parentElement);
      if (holder.parentElement !== this.edges) {
        this.edges.hold(holder, whole.naturalWidth, whole.naturalHeight);
        fill(canvas.picture, this.edges);
      }
      const mode = this.fields.get("inpaint_mode")?.field.options ?? [];
      this.edges.show(values.outpaint_selections ?? [], continued({ ...values, outpaint_selections: mode }).length > 0);
    }
    if (canvas) outline(canvas, this.hole(values));
    const control = this.image("control_image_url");
    if (control) outline(control, this.cut(control, values.control_type, values));
    for (const { control: group } of this.form.fields) {
      const parts = group instanceof GroupField ? group.parts : [];
      const picture = parts.find(({ control: each }) => each instanceof ImageField)?.control;
      const type = parts.find(({ field }) => field.name === "type");
      if (picture instanceof ImageField) outline(picture, this.cut(picture, type?.control.value ?? type?.field.initial, values));
    }
  }

  /** What of a picture that shows where things are is read. @param {ImageField} field @param {string} type
   * @param {Record<string, any>} values @returns {Told} */
  cut(field, type, values) {
    const picture = seen(field);
    const size = sizeDrawn(values, this.required);
    if (!picture || !size || !WHERE.includes(type)) return NOTHING;
    const { naturalWidth: width, naturalHeight: height } = picture;
    const box = covering(width, height, ...size);
    if (width - box.width < 1 && height - box.height < 1) return NOTHING;
    return { box, text: `What is outlined is read, ${sides(box)} of ${width} × ${height} pixels: the shape that is drawn.` };
  }

  /** What is read round the hole. Of a mask that is made smaller that is not known without making it so.
   * @param {Record<string, any>} values @returns {Told} */
  hole(values) {
    const picture = this.canvas && seen(this.canvas);
    if (!picture || !repaints(values, this.required)) return NOTHING;
    const { field, by, inverted } = reading(values);
    const mask = this.mask?.url ? seen(this.mask) : null;
    if (continued(values).length || by < 0 || (this.mask?.url && !mask)) return NOTHING;
    const { naturalWidth: width, naturalHeight: height } = picture;
    const hole = mask ? this.span(mask, width, height, inverted) : inverted ? whole(width, height) : null;
    if (!hole) return { box: null, text: "Nothing of it is marked: the prompt alone is drawn." };
    if (field >= 1) return NOTHING;
    const box = areaOf(grown(hole, width, height, by), width, height, field);
    return { box, text: `What is outlined is read and drawn with what is marked, ${sides(box)} of ${width} × ${height} pixels.` };
  }

  /** @param {HTMLImageElement} mask @param {number} width @param {number} height @param {boolean} inverted */
  span(mask, width, height, inverted) {
    const of = `${mask.src} ${width} ${height} ${inverted}`;
    if (this.known.of !== of) this.known = { of, span: spanOf(mask, width, height, inverted) };
    return this.known.span;
  }

  /** @param {string} side */
  turn(side) {
    const control = this.fields.get("outpaint_selections")?.control;
    const chosen = this.values.outpaint_selections ?? [];
    if (!control) return;
    control.value = chosen.includes(side) ? chosen.filter((/** @type {string} */ each) => each !== side) : [...chosen, side];
    control.changed();
  }

  async open() {
    const { canvas, mask } = this;
    const picture = canvas && seen(canvas);
    if (!picture || !mask) return;
    const brought = await import("./painter.js").catch(() => null);
    if (!brought) {
      mask.said.textContent = "The painter could not be loaded. Try again, or reload the page.";
      return;
    }
    const painter = (this.painter ??= document.body.appendChild(new brought.Painter()));
    const over = canvas.shown;
    const named = () => `${over} ${mask.shown}`;
    painter.open(picture, seen(mask), named(), async (file) => {
      const sent = file ? mask.load(new File([file], "mask.png", { type: "image/png" })) : mask.clear();
      const of = (painter.of = named()); // what was painted is what is shown now
      if ((await sent) === false && painter.of === of) painter.of = named(); // but the one before is shown again
    });
  }

  /** Offers the settings that a picture tells. into: the field that it was given to. @param {File} file @param {ImageField | null} into
   * @returns {Promise<boolean>} False where what reads it could not be loaded. */
  async read(file, into) {
    if (!into) this.dropped = file;
    const modules = await Promise.all([import("./metadata.js"), import("./settings.js")]).catch(() => null);
    if (!modules) return false;
    const [{ settingsOf }, { FoundSettings }] = modules;
    const told = await settingsOf(file);
    if (file !== (into ? into.file : this.dropped)) return true; // there is another one by now
    const place = into ?? /** @type {HTMLElement} */ (this.form.querySelector("form"));
    for (const before of place.querySelectorAll(":scope > fs-found")) before.remove();
    if (told || !into) place[into ? "append" : "prepend"](new FoundSettings(this.form, file.name, told));
    return true;
  }
}

/** The picture that a field shows, once it is there. @param {ImageField} field @returns {HTMLImageElement | null} */
function seen(field) {
  const found = field.picture.querySelector("img");
  return found?.complete && found.naturalWidth ? found : null;
}

/** @param {Box} box */
function sides({ width, height }) {
  return `${Math.round(width)} × ${Math.round(height)}`;
}

/** @param {ImageField} field @param {Told} told */
function outline(field, { box, text }) {
  const picture = field.picture.querySelector("img");
  field.picture.querySelector(".read")?.remove();
  field.reads.textContent = text;
  if (!picture || !box) return;
  const made = make("i", { class: "read", "aria-hidden": "true" });
  const { naturalWidth: width, naturalHeight: height } = picture;
  const share = (/** @type {number} */ part, /** @type {number} */ of) => `${(100 * part) / of}%`;
  Object.assign(made.style, {
    left: share(box.left, width), top: share(box.top, height), width: share(box.width, width), height: share(box.height, height),
  });
  picture.after(made);
}
