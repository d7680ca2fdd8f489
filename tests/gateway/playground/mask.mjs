// Prints what a mask keeps: reads [[method, ...arguments], ...] from stdin; the folder of the modules is an argument.
// What is drawn of it is for a browser: here its canvases draw nothing.
import { readFileSync } from "node:fs";

const [folder] = process.argv.slice(2);
const pen = new Proxy({ canvas: {} }, { get: (target, name) => target[name] ?? (() => {}) });
globalThis.document = { createElement: () => ({ setAttribute() {}, getContext: () => pen }) };
const { Mask } = await import(`file://${folder}/mask.js`);
const mask = new Mask(64, 64);
for (const [method, ...given] of JSON.parse(readFileSync(0, "utf-8"))) mask[method](...given);
const { done, undone, running } = mask;
console.log(JSON.stringify({ done: done.map(({ points }) => points), undone: undone.map(({ points }) => points), running: running?.points }));
