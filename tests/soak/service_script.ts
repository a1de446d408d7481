/**
 * One instance of the service of a soak: does what each message tells it to.
 *
 * @module
 */
import process from "node:process";
import { connect, NuropbCallAgain, serve } from "@nuropb/mesh";
import type { Context } from "@nuropb/mesh";
import { Random } from "./random.ts";
import { Arrivals, CONNECT_OPTIONS, serveProbe, SERVICE, startWorker } from "./worker.ts";
import type { Work } from "./worker.ts";

/** How many idempotent requests are remembered, to see whether one runs twice. */
const REMEMBERED = 20_000;

const worker = await startWorker();
const { config, note, logger, on, persist } = worker;
const random = new Random(config.seed);
const arrivals = new Arrivals();
const states = new Map<string, "running" | "done">();

async function work(content: Work, ctx: Context): Promise<unknown> {
  const { id, how, a, b } = content;
  // Asking to be called again is no end, and events that found no way out have their method run again.
  const counts = id.includes(".i.") && how !== "again" && how !== "emit";
  if (counts) remember(id);
  switch (how) {
    case "again":
      if (ctx.redelivered) break;
      note(`g ${id}`);
      throw new NuropbCallAgain();
    case "slow":
      await new Promise((resolve) => setTimeout(resolve, random.between(50, 300)));
      break;
    case "nested":
      await nested(content, ctx);
      break;
    case "emit":
      ctx.emit("soak.emitted", { id });
      break;
    case "throw":
      note(`r ${id} ${Date.now()}`);
  }
  note(`h ${id}`);
  arrivals.tell();
  if (counts) states.set(id, "done");
  if (how === "throw") throw new RangeError(`refused ${id}`);
  return { id, sum: a + b };
}

async function nested({ id, a, b }: Work, ctx: Context): Promise<void> {
  const options = { idempotent: true, ttl: 5_000 };
  const sum = await ctx.mesh.request(SERVICE, "add", { a, b }, options);
  if (sum !== a + b) throw new TypeError(`the nested request of ${id} was answered ${sum}`);
}

function remember(id: string): void {
  const state = states.get(id);
  if (state !== undefined) note(`t ${id} ${state}`);
  else states.set(id, "running");
  for (const oldest of states.keys()) {
    if (states.size <= REMEMBERED) break;
    states.delete(oldest);
  }
}

const dedupe = { size: 10_000, ttl: 60_000 };
const mesh = await persist(() =>
  connect(config.url, { ...CONNECT_OPTIONS, name: `soak-${config.name}`, logger })
);
const service = await persist(() =>
  serve({
    work,
    secret: work,
    add: ({ a, b }: { a: number; b: number }) => a + b,
  }, {
    ...{ dedupe },
    mesh,
    name: SERVICE,
    privateKey: config.privateKey,
    methods: { secret: { encrypted: true } },
    events: {
      "soak.event.*": (event, ctx) => work(event as Work, ctx),
      "soak.emitted": (event) => note(`m ${(event as { id: string }).id}`),
    },
  })
);
const close = async () => {
  await service.close();
  await mesh.close();
  process.exit(0);
};
process.on("SIGTERM", () => void close());
on("stop", () => void close());
await serveProbe(worker, mesh, arrivals);
