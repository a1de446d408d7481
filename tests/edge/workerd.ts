/**
 * Cloudflare's runtime, as a process of the test's own that reaches the machine it runs on.
 *
 * @module
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startDaemon } from "../support/daemon.ts";

/** What to run. */
export interface Worker {
  /** The worker's module, which exports `fetch` and the classes of Durable Objects. */
  readonly code: string;
  /** Texts that the worker finds in its `env`. */
  readonly env?: Readonly<Record<string, string>>;
  /** Classes of Durable Objects: by each one's name there is a namespace in `env`. */
  readonly durableObjects?: readonly string[];
  /** Whom TLS connections trust, PEM. */
  readonly authority?: string;
}

/** A running worker. */
export interface Workerd extends AsyncDisposable {
  /** Asks the worker. */
  fetch(path: string, init?: RequestInit): Promise<Response>;
  /** What the worker has logged, and the runtime about it. */
  output(): string;
}

/** Without a flag: what `nodejs_compat` has must not be needed. */
const COMPATIBILITY_DATE = "2026-10-01";

const START_TIMEOUT_MS = 30_000;

/** Starts the worker, and resolves when it can be asked. */
export function startWorkerd(worker: Worker): Promise<Workerd> {
  return runWorkerd(worker.code, configuration(worker));
}

/** Starts what a configuration describes, beside which it finds the code as `worker.js`. */
export async function runWorkerd(code: string, configuration: string): Promise<Workerd> {
  const folder = await mkdtemp(join(tmpdir(), "nuropb-workerd-"));
  await writeFile(join(folder, "worker.js"), code);
  const config = join(folder, "config.capnp");
  await writeFile(config, configuration);
  const { default: command } = createRequire(import.meta.url)("workerd") as { default: string };
  const daemon = startDaemon(command, ["serve", "--control-fd=2", config], {});
  const dispose = async () => {
    await daemon[Symbol.asyncDispose]();
    await rm(folder, { recursive: true });
  };
  let ended = false;
  void daemon.ended.then(() => ended = true);
  const deadline = Date.now() + START_TIMEOUT_MS;
  for (;;) {
    const [, port] = /"event":"listen","socket":"http","port":(\d+)/.exec(daemon.output()) ?? [];
    if (port !== undefined) {
      const fetchFrom = (path: string, init?: RequestInit) => fetch(`http://127.0.0.1:${port}${path}`, init);
      return { fetch: fetchFrom, output: daemon.output, [Symbol.asyncDispose]: dispose };
    }
    if (ended || Date.now() > deadline) {
      await dispose();
      throw new Error(`The worker did not start:\n${daemon.output()}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** In Cap'n Proto's text format, whose strings are written as JSON's are. */
function configuration({ env = {}, durableObjects = [], authority }: Worker): string {
  const texts = Object.entries(env).map(([name, text]) =>
    `(name = "${name}", text = ${JSON.stringify(text)})`
  );
  const namespaces = durableObjects.map((name) => `(name = "${name}", durableObjectNamespace = "${name}")`);
  const classes = durableObjects.map((name) => `(className = "${name}", uniqueKey = "${name}")`);
  const trusted = authority === undefined ? "" : `trustedCertificates = [${JSON.stringify(authority)}]`;
  return `
using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "worker", worker = .worker),
    (name = "internet", network = (allow = ["private"], tlsOptions = (${trusted}))),
  ],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "worker")],
);

const worker :Workerd.Worker = (
  modules = [(name = "worker.js", esModule = embed "worker.js")],
  compatibilityDate = "${COMPATIBILITY_DATE}",
  bindings = [${[...texts, ...namespaces].join(", ")}],
  durableObjectNamespaces = [${classes.join(", ")}],
  durableObjectStorage = (inMemory = void),
);
`;
}
