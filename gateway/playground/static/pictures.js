// Pictures that were drawn: a grid, each with what can be done with it.

import { fill, make } from "./dom.js";
import { call, dataContent, key, own, upload } from "./service.js";
import { Viewer } from "./viewer.js";

/** @typedef {import("./run.js").Picture} Picture */
/** What a picture can become: a name, the endpoint, and the input made of its address. */
/** @typedef {{title: string, endpoint: string, input: (url: string) => Record<string, any>}} Use */

/** @type {Use[]} */
export const USES = [
  { title: "Image prompt", endpoint: "fal-ai/fooocus/image-prompt", input: (url) => ({ image_prompt_1: { image_url: url } }) },
  { title: "Inpaint", endpoint: "fal-ai/fooocus/inpaint", input: (url) => ({ inpaint_image_url: url }) },
  {
    title: "Upscale",
    endpoint: "fal-ai/fooocus/upscale-or-vary",
    input: (url) => ({ uov_image_url: url, uov_method: "Upscale (2x)" }),
  },
  {
    title: "Vary this",
    endpoint: "fal-ai/fooocus/upscale-or-vary",
    input: (url) => ({ uov_image_url: url, uov_method: "Vary (Subtle)" }),
  },
  { title: "Begin from it", endpoint: "fal-ai/fast-fooocus-sdxl/image-to-image", input: (url) => ({ image_url: url }) },
];

/** Tells `use` with what a picture is to become. */
export class Pictures extends HTMLElement {
  constructor() {
    super();
    this.viewer = new Viewer();
  }

  /** @param {Picture[]} pictures @param {boolean[]} [flagged] Which of them the safety checker made black. */
  show(pictures, flagged = []) {
    const figures = pictures.map((picture, at) => {
      const open = make("button", { type: "button", class: "open", "aria-label": `Picture ${at + 1} in full` });
      open.append(shown(picture, `Picture ${at + 1}`));
      open.addEventListener("click", () => this.viewer.open(pictures, at));
      const note = flagged[at] && make("p", { class: "note", text: "The safety checker made this one black." });
      return make("figure", {}, open, note, this.actions(picture));
    });
    this.dataset.count = String(pictures.length);
    fill(this, ...figures, this.viewer);
  }

  /** @param {Picture} picture */
  actions(picture) {
    const save = make("button", { type: "button", text: "Download", onclick: () => download(picture) });
    const uses = USES.map((use) => make("button", { type: "button", text: use.title, onclick: () => this.use(use, picture) }));
    const menu = make("details", { class: "menu" }, make("summary", { text: "Use as …" }), make("div", {}, ...uses));
    return make("figcaption", {}, save, menu);
  }

  /** @param {Use} use @param {Picture} picture */
  async use(use, picture) {
    // a picture inside an answer would be too large to hand on
    const isInside = picture.url.startsWith("data:");
    const url = isInside ? await upload(dataContent(picture.url), "picture") : picture.url;
    const detail = { endpoint: use.endpoint, input: use.input(url) };
    this.dispatchEvent(new CustomEvent("use", { bubbles: true, detail }));
  }
}

/** A picture as an element; one that only a key may read is fetched with it. @param {Picture} picture @param {string} alt */
export function shown(picture, alt) {
  const made = make("img", { src: own(picture.url), alt, width: picture.width, height: picture.height, decoding: "async" });
  made.addEventListener("error", async () => {
    if (!key.get() || made.src.startsWith("blob:")) return;
    const src = URL.createObjectURL(await content(picture));
    made.addEventListener("load", () => URL.revokeObjectURL(src), { once: true });
    made.src = src;
  }, { once: true });
  return made;
}

/** @param {Picture} picture */
export async function content(picture) {
  const address = own(picture.url) ?? "";
  return address.startsWith("data:") ? dataContent(address) : (await call(address)).blob();
}

/** @param {Picture} picture */
export async function download(picture) {
  const href = URL.createObjectURL(await content(picture));
  make("a", { href, download: picture.file_name || "picture" }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60_000);
}

customElements.define("fs-pictures", Pictures);
