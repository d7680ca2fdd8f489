// Makes console.log print each value as one line of JSON, so that a test can read what an example printed.
console.log = (...values) => values.forEach((value) => process.stdout.write(`${JSON.stringify(value)}\n`));
