// How a picture says it was drawn: what this service, Fooocus and A1111 write into PNG, JPEG and WebP (fooocus-facts 8.5).

/** @typedef {Record<string, any>} Settings Under the names of fields. */

const [COMMENT, SCHEME, INNER] = [0x9286, 0x927c, 0x8769]; // EXIF: UserComment, MakerNote, where more tags are
const QUOTED = /'((?:\\.|[^'\\])*)'|"((?:\\.|[^"\\])*)"|\\./g; // or an escape outside, so that no quote in it begins one
const LABEL = /(?:([^:,"]+): ("(?:\\.|[^"\\])*"|[^,]*)|[^]*?)(?:, |$)/gy; // or what is none, so that all is read once
const LONGEST = 100_000; // characters; no prompt is as long, and others' pictures may hold anything

/** @param {Blob} file @returns {Promise<Settings | null>} Null where it says nothing that is understood. */
export async function settingsOf(file) {
  try {
    const text = textOf(new DataView(await file.arrayBuffer()));
    if (text === null || text.length > LONGEST) return null;
    return text.trimStart().startsWith("{") ? ofFooocus(JSON.parse(text)) : ofA1111(text);
  } catch {
    return null; // a broken file is for the service to refuse
  }
}

/** @param {DataView} file @returns {string | null} */
function textOf(file) {
  if (file.getUint32(0) === 0x89504e47) return ofPng(file);
  if (file.getUint16(0) === 0xffd8) return ofJpeg(file);
  if (latin(file, 0, 4) === "RIFF" && latin(file, 8, 4) === "WEBP") return ofWebp(file);
  return null;
}

/** @param {DataView} file @param {number} at @param {number} length */
function bytes(file, at, length) {
  return new Uint8Array(file.buffer, file.byteOffset + at, length);
}

/** @param {DataView} file @param {number} at @param {number} length */
function latin(file, at, length) {
  return new TextDecoder("latin1").decode(bytes(file, at, length));
}

/** The chunk `parameters`. @param {DataView} file */
function ofPng(file) {
  for (let at = 8; at + 12 <= file.byteLength; at += 12 + file.getUint32(at)) {
    const [length, kind] = [file.getUint32(at), latin(file, at + 4, 4)];
    if (kind !== "tEXt" && kind !== "iTXt") continue;
    const content = bytes(file, at + 8, length);
    const end = content.indexOf(0);
    if (latin(file, at + 8, end) !== "parameters") continue;
    if (kind === "tEXt") return latin(file, at + 9 + end, length - end - 1);
    if (content[end + 1]) return null; // compressed, as none of them writes it
    const begun = content.indexOf(0, content.indexOf(0, end + 3) + 1) + 1; // after a language and a translation
    return new TextDecoder().decode(content.subarray(begun));
  }
  return null;
}

/** @param {DataView} file */
function ofJpeg(file) {
  for (let at = 2; at + 4 <= file.byteLength && file.getUint8(at) === 0xff; at += 2 + file.getUint16(at + 2)) {
    const isExif = file.getUint8(at + 1) === 0xe1 && latin(file, at + 4, 6) === "Exif\0\0";
    if (isExif) return ofExif(new DataView(file.buffer, at + 10, file.getUint16(at + 2) - 8));
    if (file.getUint8(at + 1) === 0xda) return null; // pixels begin
  }
  return null;
}

/** @param {DataView} file */
function ofWebp(file) {
  for (let at = 12; at + 8 <= file.byteLength; ) {
    const length = file.getUint32(at + 4, true);
    if (latin(file, at, 4) === "EXIF") {
      const head = latin(file, at + 8, 6) === "Exif\0\0" ? 6 : 0;
      return ofExif(new DataView(file.buffer, at + 8 + head, length - head));
    }
    at += 8 + length + (length % 2);
  }
  return null;
}

/** The comment, wherever it stands; only beside a scheme's name, or in A1111's way. @param {DataView} tiff */
function ofExif(tiff) {
  const little = tiff.getUint16(0) === 0x4949;
  /** @type {Map<number, DataView>} */
  const tags = new Map();
  const folders = [tiff.getUint32(4, little)];
  for (const folder of folders) {
    for (let entry = 0; entry < tiff.getUint16(folder, little); entry += 1) {
      const at = folder + 2 + 12 * entry;
      const [tag, length] = [tiff.getUint16(at, little), tiff.getUint32(at + 4, little)];
      if (tag === INNER && folders.length < 2) folders.push(tiff.getUint32(at + 8, little));
      if (tag !== COMMENT && tag !== SCHEME) continue;
      const begun = length > 4 ? tiff.getUint32(at + 8, little) : at + 8;
      tags.set(tag, new DataView(tiff.buffer, tiff.byteOffset + begun, length));
    }
  }
  const comment = tags.get(COMMENT);
  if (!comment) return null;
  const head = comment.byteLength > 8 ? latin(comment, 0, 8) : "";
  if (head === "UNICODE\0") return new TextDecoder("utf-16be").decode(bytes(comment, 8, comment.byteLength - 8));
  const text = new TextDecoder().decode(bytes(comment, 0, comment.byteLength));
  return text.replace(/^ASCII\0\0\0/, "").replace(/(?<!\0)\0+$/, "");
}

/** @param {Settings} told */
function ofFooocus(told) {
  const [width, height] = String(told.resolution ?? "").match(/\d+/g) ?? [];
  const quoted = [...String(told.styles ?? "").matchAll(QUOTED)].flatMap(([, one, other]) => one ?? other ?? []);
  const named = (/** @type {string} */ name) => String(told.prompt ?? "").toLowerCase().includes(`<lora:${name.toLowerCase()}`);
  return filled({
    prompt: told.prompt, negative_prompt: told.negative_prompt, performance: told.performance, size: [width, height],
    styles: told.styles === undefined ? undefined : quoted.map((each) => each.replace(/\\(.)/g, "$1")),
    steps: told.steps, guidance_scale: told.guidance_scale, sharpness: told.sharpness, seed: told.seed,
    refiner_model: told.refiner_model, refiner_switch: told.refiner_model === "None" ? undefined : told.refiner_switch,
    // those that the prompt names come by the prompt
    loras: told.loras?.filter((/** @type {any[]} */ [name]) => !named(name)).map((/** @type {any[]} */ [path, scale]) => ({ path, scale })),
  });
}

/** @param {string} text @returns {Settings | null} */
function ofA1111(text) {
  const lines = text.trim().split("\n");
  const last = lines.pop() ?? "";
  if (!/\bSteps: \d/.test(last)) return null;
  const at = lines.findIndex((line) => line.startsWith("Negative prompt: "));
  const [positive, negative] = at < 0 ? [lines, []] : [lines.slice(0, at), lines.slice(at)];
  const found = [...last.matchAll(LABEL)].filter(([, label]) => label);
  const labels = found.map(([, label, value]) => [label.trim(), value.startsWith('"') ? JSON.parse(value) : value]);
  const told = Object.fromEntries(labels);
  const [width, height] = String(told.Size ?? "").split("x");
  const number = (/** @type {string | undefined} */ value) => (value === undefined ? undefined : Number(value));
  return filled({
    prompt: told["Raw prompt"] ?? positive.join("\n"),
    negative_prompt: told["Raw negative prompt"] ?? negative.join("\n").replace(/^Negative prompt: /, ""),
    performance: told.Performance, steps: number(told.Steps), guidance_scale: number(told["CFG scale"]),
    sharpness: number(told.Sharpness), seed: told.Seed, size: [width, height], refiner_model: told.Refiner ?? "None",
  });
}

/** @param {Settings} found */
function filled({ size: [width, height], ...found }) {
  if (width && height) found.size = [Number(width), Number(height)];
  return Object.fromEntries(Object.entries(found).filter(([, value]) => value !== undefined));
}
