// A small picture of a large one, made here, so that a long list keeps none of the large ones.

import { content } from "./pictures.js";
import { own } from "./service.js";

const HEIGHT = 128; // of the list's 64, on dense screens

/** Its address, to be revoked; null for a picture that this page may not read. @param {import("./run.js").Picture} picture */
export async function thumbnail(picture) {
  if (!own(picture.url)) return null;
  const bitmap = await createImageBitmap(await content(picture), { resizeHeight: HEIGHT, resizeQuality: "medium" });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  canvas.getContext("2d")?.drawImage(bitmap, 0, 0);
  bitmap.close();
  return URL.createObjectURL(await canvas.convertToBlob({ type: "image/webp" }));
}
