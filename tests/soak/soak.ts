/**
 * Services and callers for some minutes, with faults at random; ends with a ledger of what became of each message.
 *
 * deno task soak [--minutes N] [--seed N] [--runtime deno,bun,node20] [--services N] [--callers N]
 *   [--rate MESSAGES_A_SECOND] [--faults drop,reset,…] [--json FILE]
 *
 * @module
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { pack } from "../../.ci/pack.ts";
import { startFaultProxy } from "../faults/fault_proxy.ts";
import { installDebianPackage, isRoot } from "../support/debian.ts";
import { buildForNode } from "../support/node_build.ts";
import { hasRabbitmq, type RabbitmqNode, startRabbitmq } from "../support/rabbitmq.ts";
import { findRuntime, type Runtime } from "../support/runtimes.ts";
import { runFaults } from "./fault_runner.ts";
import { Ledger } from "./ledger.ts";
import { Random } from "./random.ts";
import { readSoakOptions, type SoakOptions } from "./soak_options.ts";
import { SoakProgress } from "./soak_progress.ts";
import { LONGEST_RECOVERY_MS, show, summarize, type Summary } from "./summary.ts";
import { CONNECT_OPTIONS, REQUEST_TTL } from "./worker.ts";
import { WorkerProcess } from "./worker_process.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const VHOST = "nuropb-soak";

/** Before the first fault, in ms. */
const FAULTLESS_MS = 5_000;

/** How long a process runs before its memory counts as that of the start, in ms. */
const WARM_UP_MS = 45_000;

/** How long events flow at the end without a fault, in ms. */
const QUIET_MS = 5_000;

/** How long after the last message everything may still be on its way, in ms. */
const SETTLE_MS = Math.max(REQUEST_TTL, CONNECT_OPTIONS.confirmTimeout) + 30_000;

/** How often memory is measured after that, in ms. */
const MEMORY_MS = 15_000;

const READ_MS = 100;

async function main(): Promise<boolean> {
  const options = readSoakOptions();
  const cache = join(root, ".cache");
  await Deno.mkdir(cache, { recursive: true });
  const folder = await Deno.makeTempDir({ dir: cache, prefix: "soak-" });
  const summary = await soak(options, cache, folder);
  console.log(show(summary));
  if (options.json !== undefined) {
    await Deno.writeTextFile(options.json, `${JSON.stringify(summary, null, 2)}\n`);
  }
  if (summary.problems.length === 0) {
    await Deno.remove(folder, { recursive: true });
    return true;
  }
  await showLogs(folder);
  return false;
}

async function soak(options: SoakOptions, cache: string, folder: string): Promise<Summary> {
  using progress = new SoakProgress();
  progress.print(`Seed ${options.seed}, ${options.minutes} min`);
  await using broker = await findRabbitmq(folder);
  await using vhost = await broker.createVhost(VHOST);
  await using started = new AsyncDisposableStack();
  const ledger = new Ledger();
  progress.follow(ledger);
  const workers: WorkerProcess[] = [];
  for (const plan of await planWorkers(options, cache, folder)) {
    const proxy = started.use(await startFaultProxy({ host: "127.0.0.1", port: broker.port }));
    const config = { ...plan.config, url: proxy.url(vhost.url) };
    const worker = new WorkerProcess({ ...plan, config }, proxy, folder, ledger);
    started.defer(() => worker.kill());
    workers.push(worker);
  }
  const read = () => workers.forEach((worker) => worker.read());
  const reader = setInterval(read, READ_MS);
  const meter = setInterval(() => measureMemory(workers), MEMORY_MS);
  started.defer(() => {
    clearInterval(reader);
    clearInterval(meter);
  });
  const stopped = stopOnSignal();
  const random = new Random(options.seed);
  await startAll(workers, options.seed);
  const begin = Date.now();
  await pause(FAULTLESS_MS);
  const stage = { broker, vhost: VHOST, workers, ledger };
  const until = begin + options.minutes * 60_000;
  const onproblem = (problem: string) => ledger.problems.push(problem);
  const recoveries = await runFaults(stage, options.faults, random, until, stopped, progress, onproblem);
  progress.text = "quiet";
  clearInterval(meter);
  await pause(LONGEST_RECOVERY_MS);
  tellAll(workers, "quiet");
  await pause(QUIET_MS);
  tellAll(workers, "halt");
  progress.text = "waiting for what is on its way";
  await waitUntil(() => isSettled(ledger), SETTLE_MS);
  const measured = workers.map(({ memory }) => memory.length);
  tellAll(workers, "memory");
  await waitUntil(() => workers.every(({ memory }, index) => memory.length > measured[index]!), 10_000);
  const summary = summarize(
    options.seed,
    Math.round((Date.now() - begin) / 1_000),
    ledger,
    recoveries,
    workers,
  );
  await Promise.all(workers.map((worker) => worker.close("word")));
  read();
  return { ...summary, problems: [...new Set([...summary.problems, ...ledger.problems])] };
}

/** Callers start when there is someone to call, and it begins when all are at work. */
async function startAll(workers: readonly WorkerProcess[], seed: number): Promise<void> {
  for (const role of ["service", "caller"]) {
    const some = workers.filter(({ plan }) => plan.role === role);
    await Promise.all(some.map((worker) => {
      const ready = worker.ready();
      void worker.start(seed + workers.indexOf(worker));
      return ready;
    }));
  }
  await Promise.all(workers.map((worker) => worker.probe(0)));
}

/** Services first, then callers, on the runtimes in turn. */
async function planWorkers(
  { runtimes, services, callers, rate }: SoakOptions,
  cache: string,
  folder: string,
) {
  const found: Runtime[] = [];
  for (const name of runtimes) {
    const runtime = await findRuntime(name, cache);
    if (!("found" in runtime)) throw new Error(`There is no ${name}: ${runtime.missing}`);
    found.push(runtime.found);
  }
  const built = join(folder, "node");
  const scripts = { service: "tests/soak/service_script.ts", caller: "tests/soak/caller_script.ts" };
  if (found.some(({ name }) => name.startsWith("node"))) {
    const tarball = await pack(folder);
    await buildForNode({ root, files: Object.values(scripts), tarball, folder: built });
  }
  const privateKey = await makePrivateKey();
  return Array.from({ length: services + callers }, (_, index) => {
    const role = index < services ? "service" as const : "caller" as const;
    const name = role === "service" ? `s${index + 1}` : `c${index - services + 1}`;
    const runtime = found[index % found.length]!;
    const config = { name, url: "", privateKey, rate: rate / callers };
    const [command, ...args] = commandFor(runtime, scripts[role], built);
    return { name, role, runtime: runtime.name, command, args, config };
  });
}

function commandFor({ name, command }: Runtime, script: string, built: string): [string, ...string[]] {
  if (name === "deno") {
    return [command, "run", "-A", "--no-check", "--v8-flags=--expose-gc", join(root, script)];
  }
  if (name === "bun") return [command, join(root, script)];
  return [command, "--expose-gc", "--enable-source-maps", join(built, script.replace(/\.ts$/, ".js"))];
}

/** One for all instances of the service, so that each can open what was encrypted for another. */
async function makePrivateKey(): Promise<string> {
  const algorithm = {
    name: "RSA-OAEP",
    hash: "SHA-256",
    modulusLength: 2048,
    publicExponent: new Uint8Array([1, 0, 1]),
  };
  const { privateKey } = await crypto.subtle.generateKey(algorithm, true, ["encrypt", "decrypt"]);
  const der = new Uint8Array(await crypto.subtle.exportKey("pkcs8", privateKey));
  const base64 = btoa(String.fromCharCode(...der)).replace(/.{64}/g, "$&\n");
  return `-----BEGIN PRIVATE KEY-----\n${base64}\n-----END PRIVATE KEY-----\n`;
}

async function findRabbitmq(folder: string): Promise<RabbitmqNode> {
  if (!await hasRabbitmq() && isRoot()) await installDebianPackage("rabbitmq-server");
  if (!await hasRabbitmq()) throw new Error("Install rabbitmq-server, or run as root on Debian");
  // Once more, as someone may have taken a port that was free a moment ago.
  return await startRabbitmq(folder).catch(() => startRabbitmq(folder));
}

/** Whether every call has ended, and every promise was kept. */
function isSettled(ledger: Ledger): boolean {
  return ledger.pending === 0 && ledger.refusedWithoutLetter === 0 &&
    ledger.rows().every(({ lost }) => lost === 0);
}

/** Measures the memory of those that have warmed up. */
function measureMemory(workers: readonly WorkerProcess[]): void {
  tellAll(workers.filter(({ started }) => Date.now() - started >= WARM_UP_MS), "memory");
}

function tellAll(workers: readonly WorkerProcess[], line: string): void {
  for (const worker of workers) worker.tell(line);
}

async function waitUntil(holds: () => boolean, milliseconds: number): Promise<void> {
  const deadline = Date.now() + milliseconds;
  while (!holds() && Date.now() < deadline) await pause(500);
}

/** The end of each process's log, and where the rest is. */
async function showLogs(folder: string): Promise<void> {
  for await (const { name } of Deno.readDir(folder)) {
    if (!name.endsWith(".log")) continue;
    const lines = (await Deno.readTextFile(join(folder, name))).trimEnd().split("\n");
    console.log(`\n${join(folder, name)}\n${lines.slice(-20).join("\n")}`);
  }
}

/** The first Ctrl-C has the soak come to its end at once, with its ledger. */
function stopOnSignal(): AbortSignal {
  const controller = new AbortController();
  const stop = () => {
    controller.abort();
    for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.removeSignalListener(signal, stop);
  };
  for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(signal, stop);
  return controller.signal;
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

Deno.exit(await main() ? 0 : 1);
