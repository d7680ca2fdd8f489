// Prints what a picture says of its making: reads the file from stdin; the folder of the modules is an argument.
import { readFileSync } from "node:fs";

const [folder] = process.argv.slice(2);
const { settingsOf } = await import(`file://${folder}/metadata.js`);
console.log(JSON.stringify(await settingsOf(new Blob([readFileSync(0)]))));
