// A client that nobody pointed at the service, and that swallows every error: the guard must still fail it.
import { pointed } from "./pointing.mjs";

const fal = pointed(process.argv[2], "none", "");
try {
  await fal.subscribe("fal-ai/fooocus", { input: {} });
} catch {
  process.exit(0);
}
