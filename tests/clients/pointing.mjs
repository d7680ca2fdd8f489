// The JavaScript clients pointed at the service; each way returns the functions that a story needs.
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);

function toService(base, restHost) {
  return async (request) => ({
    ...request,
    url: request.url
      .replace("https://queue.fal.run", `${base}/queue`)
      .replace("https://fal.run", `${base}/run`)
      .replace(restHost, `${base}/rest`),
  });
}

// client: "new" or "old". way: "middleware", "proxy" (new client only), "fetch" or "none" (to see the guard work)
// credentials: the empty text is a client without a key
export function pointed(client, way, base, credentials = "any:key") {
  const fal = client === "new" ? require("@fal-ai/client").fal : require("@fal-ai/serverless-client");
  const restHost = client === "new" ? "https://rest.fal.ai" : "https://rest.alpha.fal.ai";
  const rewrite = toService(base, restHost);
  if (way === "middleware") {
    fal.config({ credentials, requestMiddleware: rewrite });
  } else if (way === "proxy") {
    fal.config({ credentials, proxyUrl: { url: `${base}/api/fal/proxy`, when: "always" } });
  } else if (way === "fetch") {
    fal.config({ credentials, fetch: async (url, init) => fetch((await rewrite({ url: String(url) })).url, init) });
  } else if (way === "none") {
    fal.config({ credentials });
  } else {
    throw new Error(`no such way: ${way}`);
  }
  return fal;
}

// the two generations answer in different shapes
export function unwrapped(client, result) {
  return client === "new" ? { output: result.data, requestId: result.requestId } : { output: result, requestId: null };
}
