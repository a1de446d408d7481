/**
 * Does everything wrong that can be done with secrets at hand, and prints all that it gets hold of.
 *
 * noisy_script.ts 'SETTING'
 */
import { bearer, connect, NuropbException, serve, setupMesh } from "@nuropb/mesh";
import type { Context, Logger, Mesh, MeshStatus, ServeOptions } from "@nuropb/mesh";
import process from "node:process";
import { inspect } from "node:util";
import { relay } from "../conformance/listener.ts";

/** What the test tells this script. */
export interface Noise {
  readonly url: string;
  readonly managementUrl: string;
  /** With TLS of an authority that nobody knows. */
  readonly secureUrl: string;
  /** Urls that are refused, each for a reason of its own. */
  readonly badUrls: readonly string[];
  readonly password: string;
  readonly tls: { readonly ca: string; readonly cert: string; readonly key: string };
  readonly otherKey: string;
  /** What signs the tokens. */
  readonly secret: string;
  readonly tokens: Readonly<Record<"valid" | "expired" | "tampered", string>>;
  readonly privateKey: string;
  /** The service's name. */
  readonly name: string;
}

const noise: Noise = JSON.parse(process.argv[2] ?? "");
const { name, tls, tokens } = noise;

interface Inspecting {
  inspect?: (value: unknown, options: object) => string;
}
const { Deno, Bun } = globalThis as { Deno?: Inspecting; Bun?: Inspecting };

/** Prints a value in every way that a runtime has. */
function show(what: string, value: unknown): void {
  console.log(`--- ${what}`);
  console.log(value);
  console.error(value);
  const everything = { depth: Infinity, showHidden: true, iterableLimit: Infinity };
  console.log(
    inspect(value, { ...everything, maxArrayLength: null, maxStringLength: null, breakLength: Infinity }),
  );
  console.log(Deno?.inspect?.(value, { ...everything, strAbbreviateSize: Infinity, showProxy: true }) ?? "");
  console.log(Bun?.inspect?.(value, everything) ?? "");
  try {
    console.log(JSON.stringify(value));
  } catch (error) {
    console.log(error);
  }
  console.log(String(value));
  for (let error = value; error instanceof Error; error = error.cause) {
    console.error(error.message, error.stack, Object.getOwnPropertyDescriptors(error));
  }
}

const level = (level: string) => (message: string, fields?: Record<string, unknown>) => {
  console.log(level, message, fields);
  show(message, fields);
};
const logger: Logger = {
  debug: level("debug"),
  info: level("info"),
  warn: level("warn"),
  error: level("error"),
};

async function fails(what: string, operation: () => Promise<unknown>): Promise<void> {
  let outcome: unknown = "nothing";
  try {
    outcome = await operation();
  } catch (error) {
    return show(`${what} fails`, error);
  }
  console.log(`UNEXPECTED: ${what} gave ${inspect(outcome)}`);
}

const options = { logger, connectTimeout: 3_000 };
const context = (token: string) => ({ context: { Authorization: `Bearer ${token}` }, ttl: 5_000 });

for (const url of noise.badUrls) await fails("connecting", () => connect(url, options));
await fails("connecting to a cluster", () => connect(noise.badUrls, options));
for (
  const [what, wrong] of Object.entries({
    "without an authority": {},
    "with a wrong key": { ...tls, key: noise.otherKey },
    "with half a key": { ...tls, key: tls.key.slice(0, 100) },
    "with certificate and key exchanged": { ca: tls.ca, cert: tls.key, key: tls.cert },
  })
) {
  await fails(`TLS ${what}`, () => connect(noise.secureUrl, { ...options, tls: wrong }));
}

const { managementUrl } = noise;
const credentials = { username: "guest", password: noise.password };
const vhostUrl = `${noise.url}-new`;
await fails("setting up", () => setupMesh(vhostUrl, { ...options, managementUrl }));
await fails(
  "setting up with other credentials",
  () => setupMesh(vhostUrl, { ...options, managementUrl, managementCredentials: credentials }),
);
await fails(
  "setting up where nobody is",
  () =>
    setupMesh(vhostUrl, {
      ...options,
      managementUrl: "http://127.0.0.1:1",
      managementCredentials: credentials,
    }),
);

const serving: ServeOptions = { ...options, url: noise.url, name };
for (
  const privateKey of [
    noise.privateKey.slice(0, 500),
    noise.privateKey.replaceAll("PRIVATE", "PUBLIC"),
    noise.tls.key,
  ]
) {
  await fails("serving with a bad key", () => serve({ who() {} }, { ...serving, privateKey }));
}
await fails(
  "serving with bad options",
  () => serve({ who() {} }, { ...serving, ...credentials, concurrency: 0 }),
);

const authorize = bearer({ secret: noise.secret, issuer: "issuer" });
const methods = {
  who(_params: unknown, ctx: Context) {
    show("a context", ctx);
    return ctx.claims;
  },
  fail() {
    const cause = new RangeError("for this reason", { cause: new Error("and that one") });
    throw new NuropbException("The method failed", { cause });
  },
  forbidden() {},
  open: () => "opened",
  hang: (_params: unknown, { signal }: Context) =>
    new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(signal.reason))),
  burst() {
    throw new Error("The vault burst");
  },
};
const link = await relay(noise.url);
const { privateKey } = noise;
const service = await serve(methods, {
  ...serving,
  url: link.url,
  authorize,
  privateKey,
  methods: { open: { encrypted: true }, burst: { encrypted: true }, forbidden: { scopes: ["none"] } },
  events: { "noise.*": () => Promise.reject(new Error("The event failed")) },
});
const mesh = await connect(link.url, { ...options, tls });
const statuses: MeshStatus[] = [];
for (const each of [mesh, service.mesh]) {
  each.addEventListener("status", ({ detail }) => statuses.push(detail));
}

show("a good answer", await mesh.request(name, "who", {}, context(tokens.valid)));
show("an encrypted answer", await mesh.request(name, "open", {}, context(tokens.valid)));
for (const token of [tokens.expired, tokens.tampered, "", noise.secret]) {
  await fails("a call", () => mesh.request(name, "who", {}, context(token)));
  await fails("an encrypted call", () => mesh.request(name, "open", {}, context(token)));
  await mesh.command(name, "who", {}, { context: context(token).context });
}
for (const method of ["fail", "forbidden", "burst", "nothing"]) {
  await fails(method, () => mesh.request(name, method, {}, context(tokens.valid)));
  await mesh.command(name, method, {}, { context: context(tokens.valid).context });
}
await fails(
  "a plain call",
  () => mesh.request(name, "open", {}, { ...context(tokens.valid), encrypted: false }),
);
await fails("a call to nobody", () => mesh.request(`${name}-none`, "who", {}, context(tokens.valid)));
await fails("a late call", () => mesh.request(name, "hang", {}, { ...context(tokens.valid), ttl: 50 }));
await fails("a bad call", () => mesh.request(name, "who", {}, { ...context(tokens.valid), ttl: -1 }));
await mesh.publish("noise.event", 1, { context: { Authorization: tokens.valid } });

const pending = mesh.request(name, "open", {}, context(tokens.valid));
const lost = new Promise<void>((resolve) => {
  mesh.addEventListener("status", ({ detail }) => detail.state === "open" || resolve());
});
link.cut();
await pending.catch((error) => show("a lost call", error));
await lost;
await mesh.ready();
await mesh.request(name, "open", {}, context(tokens.valid));

const showAll = (mesh: Mesh) =>
  show("everything", {
    mesh,
    service,
    authorize,
    statuses,
    proxy: mesh.service(name, context("")),
    subscription: mesh.subscribe("noise.*"),
    letters: mesh.deadLetters(),
    prototype: Object.getOwnPropertyDescriptors(Object.getPrototypeOf(mesh)),
    symbols: Reflect.ownKeys(mesh).concat(Reflect.ownKeys(service)),
  });
showAll(mesh);
showAll(service.mesh);
await mesh.close();
await service.close();
showAll(mesh);
await link.close();
console.log("the end");
// What was opened and should not have been is told above, and must not keep this process.
process.exit();
