// The guard of the JavaScript client tests (node --import guard.mjs): a call that is not loopback ends the process.
import dgram from "node:dgram";
import dns from "node:dns";
import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import net from "node:net";

const EXIT_CODE = 97;

function isLoopback(host) {
  if (host === undefined || host === null || host === "" || host === "localhost") return true;
  const bare = String(host).replace(/^\[|\]$/g, "");
  if (net.isIPv4(bare)) return bare.startsWith("127.");
  return bare === "::1";
}

function check(host) {
  if (isLoopback(host)) return;
  // at once and without an exception: a client that retries or swallows errors must not get the chance
  fs.writeSync(2, `guard: a call to ${host}\n`);
  process.exit(EXIT_CODE);
}

// every TCP and TLS connection, fetch's too, goes through this method
const connect = net.Socket.prototype.connect;
net.Socket.prototype.connect = function (...args) {
  const given = Array.isArray(args[0]) ? args[0] : args;
  const first = given[0];
  if (first !== null && typeof first === "object") {
    if (first.path === undefined || first.path === null) check(first.host);
  } else if (typeof first === "number" || /^\d+$/.test(String(first))) {
    check(typeof given[1] === "string" ? given[1] : undefined);
  }
  return connect.apply(this, args);
};

for (const owner of [dns, dns.promises, dns.Resolver.prototype, dns.promises.Resolver.prototype]) {
  for (const name of Object.getOwnPropertyNames(owner)) {
    if (!/^(lookup|resolve\w*)$/.test(name) || typeof owner[name] !== "function") continue;
    const original = owner[name];
    owner[name] = function (host, ...rest) {
      check(host);
      return original.call(this, host, ...rest);
    };
  }
}

const send = dgram.Socket.prototype.send;
dgram.Socket.prototype.send = function (...args) {
  const hosts = args.slice(1).filter((arg) => typeof arg === "string");
  hosts.forEach(check);
  return send.apply(this, args);
};

// so that `import { lookup } from "node:dns"` gets the guarded function as well
syncBuiltinESMExports();
