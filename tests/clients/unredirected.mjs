// A client that nobody pointed at the service, and that swallows every error: the guard must still fail it.
const [client] = process.argv.slice(2);

async function call() {
  if (client === "ai-sdk") {
    const { createFal } = await import("@ai-sdk/fal");
    const { generateImage } = await import("ai");
    await generateImage({ model: createFal().image("fal-ai/fooocus"), prompt: "x" });
  } else {
    const { pointed } = await import("./pointing.mjs");
    await pointed(client, "none", "").subscribe("fal-ai/fooocus", { input: {} });
  }
}

await call().catch(() => process.exit(0));
