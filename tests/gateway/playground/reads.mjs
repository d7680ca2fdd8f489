// Prints the areas round holes: reads [[hole, width, height, grown by, field], ...] from stdin; the folder of the modules is an argument.
import { readFileSync } from "node:fs";

const [folder] = process.argv.slice(2);
const { areaOf, covering, grown, reading } = await import(`file://${folder}/reads.js`);
const { areas, covers, modes } = JSON.parse(readFileSync(0, "utf-8"));
console.log(
  JSON.stringify({
    areas: areas.map(([hole, width, height, by, field]) => areaOf(grown(hole, width, height, by), width, height, field)),
    covers: covers.map((sides) => covering(...sides)),
    modes: modes.map(reading),
  }),
);
