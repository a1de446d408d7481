/**
 * A caller of a soak: sends requests, commands and events, subscribes to the events, and reads dead letters.
 *
 * @module
 */
import process from "node:process";
import { connect, NuropbException } from "@nuropb/mesh";
import { Random } from "./random.ts";
import { Arrivals, CONNECT_OPTIONS, REQUEST_TTL, serveProbe, SERVICE, startWorker } from "./worker.ts";
import type { How, Kind, Work } from "./worker.ts";

/** Of nine messages so many are of a kind. */
const SHARES: readonly Kind[] = ["r", "r", "r", "r", "i", "i", "c", "c", "e"];

/** Of a hundred messages so many are to be handled in a way; the rest plainly. */
const WAYS: Record<Kind, Partial<Record<How, number>>> = {
  r: { slow: 10, throw: 4, again: 4, emit: 6, nested: 4, secret: 3 },
  i: { slow: 10, throw: 4, again: 4, emit: 6, nested: 4, secret: 3 },
  c: { slow: 5, throw: 3, again: 4, emit: 8, secret: 3 },
  e: { slow: 5, throw: 3, again: 4, emit: 4 },
};

/** How long after its deadline a call that has not settled counts as hung, in ms. */
const HUNG_AFTER = 5_000;

const TICK_MS = 25;

const worker = await startWorker();
const { config, note, logger, on, persist } = worker;
const { name, url } = config;
const random = new Random(config.seed);
const mesh = await persist(() => connect(url, { ...CONNECT_OPTIONS, name: `soak-${name}`, logger }));
const arrivals = new Arrivals();
/** When each call that has not settled is to be called hung. */
const pending = new Map<string, number>();
const next: Record<Kind, number> = { r: 0, i: 0, c: 0, e: 0 };

function send(kind: Kind): void {
  const how = wayOf(kind);
  const id = `${name}.${kind}.${next[kind]++}`;
  const work: Work = { id, how, a: random.between(0, 1_000), b: random.between(0, 1_000) };
  const isRequest = kind === "r" || kind === "i";
  pending.set(id, Date.now() + (isRequest ? REQUEST_TTL : CONNECT_OPTIONS.confirmTimeout) + HUNG_AFTER);
  note(`s ${id} ${how}`);
  const call = isRequest ? ask(kind, work) : tell(kind, work);
  call.then(note, (error: unknown) => note(`f ${id} ${codeOf(error)}`)).finally(() => pending.delete(id));
}

async function ask(kind: Kind, work: Work): Promise<string> {
  const { id, how, a, b } = work;
  const options = { ttl: REQUEST_TTL, traceId: id, idempotent: kind === "i" };
  let answer: unknown;
  try {
    answer = await mesh.request(SERVICE, how === "secret" ? "secret" : "work", work, options);
  } catch (error) {
    const isRefusal = error instanceof NuropbException && error.remote?.name === "RangeError";
    if (!isRefusal) throw error;
    return how === "throw" && error.description === `refused ${id}` ? `a ${id}` : `w ${id} ${error}`;
  }
  const expected = JSON.stringify({ id, sum: a + b });
  if (how !== "throw" && JSON.stringify(answer) === expected) return `a ${id}`;
  return `w ${id} ${JSON.stringify(answer)}`;
}

async function tell(kind: Kind, work: Work): Promise<string> {
  const { id, how } = work;
  if (kind === "e") await mesh.publish(`soak.event.${name}`, work, { traceId: id });
  else await mesh.command(SERVICE, how === "secret" ? "secret" : "work", work, { traceId: id });
  return `c ${id}`;
}

function wayOf(kind: Kind): How {
  let left = random.between(0, 99);
  for (const [way, share] of Object.entries(WAYS[kind]) as [How, number][]) {
    if (left < share) return way;
    left -= share;
  }
  return "plain";
}

function codeOf(error: unknown): string {
  if (!(error instanceof NuropbException)) return String(error).replaceAll(/\s+/g, "_");
  return `${error.name}/${error.code}${error.remote === undefined ? "" : "/from_the_service"}`;
}

async function listen(): Promise<void> {
  for await (const { event } of mesh.subscribe<Work>("soak.event.#")) {
    note(`v ${event.id}`);
    arrivals.tell();
  }
}

async function readDeadLetters(): Promise<void> {
  for await (const letter of mesh.deadLetters()) {
    note(`d ${letter.message.headers["trace_id"]} ${letter.type}/${letter.reason}`);
    letter.discard();
  }
}

let budget = 0;
let last = performance.now();
const sender = setInterval(() => {
  const now = performance.now();
  // What could not be sent in time is not made up for.
  budget = Math.min(budget + config.rate * (now - last) / 1_000, config.rate / 4);
  last = now;
  for (; budget >= 1; budget--) send(random.pick(SHARES));
}, TICK_MS);

setInterval(() => {
  for (const [id, deadline] of pending) {
    if (Date.now() < deadline) continue;
    pending.delete(id);
    note(`u ${id}`);
  }
}, 1_000);

on("quiet", () => note(`k ${name}.e.${next.e}`));
on("halt", () => clearInterval(sender));
on("stop", () => void mesh.close().then(() => process.exit(0)));
void listen();
void readDeadLetters();
await serveProbe(worker, mesh, arrivals);
