/**
 * What the processes of a soak have in common: they are told what to do on standard input, and write down what
 * happens to each message in a file, line by line. A line is written before the handler that it tells of returns, so
 * that one who is killed has left it behind.
 *
 * | line | meaning |
 * |---|---|
 * | `s ID HOW` | sent, and what its handler is to do |
 * | `c ID`, `a ID` | confirmed by the broker; answered as it should be |
 * | `w ID TEXT` | answered wrongly |
 * | `f ID CODE` | failed |
 * | `u ID` | unsettled long after its deadline |
 * | `h ID`, `g ID` | a handler ran to its end; asked to be called again |
 * | `r ID TIME` | a handler refused it |
 * | `t ID STATE` | an idempotent request that the same process had begun (`running`) or done (`done`) already |
 * | `m ID` | the event that ID's handler emitted was handled |
 * | `v ID` | a subscriber got it |
 * | `d ID REASON` | it is a dead letter |
 * | `k ID` | events from this one on are sent when no fault is under way |
 * | `o TIME`, `b`, `p NUMBER TIME` | the program began; all that it serves is up; a probe was answered |
 * | `y RSS HEAP` | memory in bytes, after a collection |
 * | `x TEXT` | an unhandled rejection, or an uncaught exception |
 *
 * An ID is `SENDER.KIND.NUMBER`.
 *
 * @module
 */
import { openSync, writeSync } from "node:fs";
import process from "node:process";
import { createInterface } from "node:readline";
import type { Logger, Mesh } from "@nuropb/mesh";
import { serve } from "@nuropb/mesh";

/** The kinds of messages, as they are in an ID: of requests, idempotent requests, commands and events. */
export type Kind = "r" | "i" | "c" | "e";

/** What a handler is to do. */
export type How = "plain" | "slow" | "throw" | "again" | "emit" | "nested" | "secret";

/** What a process is told first. */
export interface WorkerConfig {
  readonly name: string;
  readonly url: string;
  /** The file for its lines. */
  readonly journal: string;
  readonly seed: number;
  /** Of the services' encryption, PKCS8 PEM. */
  readonly privateKey: string;
  /** Messages a second, of a caller. */
  readonly rate: number;
}

/** A message's content: the params of a call, and an event. */
export interface Work {
  readonly id: string;
  readonly how: How;
  readonly a: number;
  readonly b: number;
}

/** A process of the soak. */
export interface Worker {
  readonly config: WorkerConfig;
  /** Writes a line. */
  readonly note: (line: string) => void;
  readonly logger: Logger;
  /** Runs when the orchestrator says this word. */
  on(word: string, run: (argument: string) => void): void;
  /** Opens something, and tries again until that succeeds. */
  persist<Value>(open: () => Promise<Value>): Promise<Value>;
}

/** The service that all callers call. */
export const SERVICE = "soak";

/** For everyone who connects. */
export const CONNECT_OPTIONS = { heartbeat: 2_000, connectTimeout: 3_000, confirmTimeout: 15_000 };

/** What a request has, in ms. */
export const REQUEST_TTL = 10_000;

const RETRY_MS = 100;
const PROBE_TTL = 2_000;
const PROBE_PAUSE_MS = 20;

/** Reads the configuration, and listens to what comes after it. */
export async function startWorker(): Promise<Worker> {
  const began = Date.now();
  const handlers = new Map<string, (argument: string) => void>();
  const missed: string[] = [];
  const dispatch = (line: string) => {
    const [word = "", argument = ""] = line.split(" ");
    const handler = handlers.get(word);
    if (handler === undefined) missed.push(line);
    else handler(argument);
  };
  const config = await new Promise<WorkerConfig>((resolve) => {
    let configured = false;
    const lines = createInterface({ input: process.stdin });
    lines.on("line", (line) => {
      if (configured) return dispatch(line);
      configured = true;
      resolve(JSON.parse(line));
    });
    // Whoever started this process is gone.
    lines.on("close", () => process.exit(9));
  });
  const file = openSync(config.journal, "a");
  const note = (line: string) => void writeSync(file, `${line}\n`);
  for (const event of ["unhandledRejection", "uncaughtException"]) {
    process.on(event, (error: unknown) => {
      const text = error instanceof Error ? `${error.stack ?? error}` : String(error);
      note(`x ${event} ${text.replaceAll("\n", " | ")}`);
      console.error(event, text);
    });
  }
  note(`o ${began}`);
  const log = (level: string) => (message: string, fields: Record<string, unknown> = {}) => {
    // What a handler refuses as it was told to is not worth a line.
    if (String(fields["reason"]).startsWith("RangeError: refused ")) return;
    console.error(new Date().toISOString(), level, message, JSON.stringify(fields));
  };
  const worker: Worker = {
    config,
    note,
    logger: { debug() {}, info: log("info"), warn: log("warn"), error: log("error") },
    on(word, run) {
      handlers.set(word, run);
      for (const line of missed.splice(0)) dispatch(line);
    },
    async persist(open) {
      for (;;) {
        try {
          return await open();
        } catch (error) {
          worker.logger.warn("could not open, and tries again", { reason: String(error) });
          await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
        }
      }
    },
  };
  worker.on("memory", () => void measureMemory(note));
  return worker;
}

/** What comes in by itself, for those who wait for the next of it. */
export class Arrivals {
  readonly #waiting: (() => void)[] = [];

  /** Something came. */
  tell(): void {
    if (this.#waiting.length === 0) return;
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  /** Resolves when the next thing comes. */
  next(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }
}

/**
 * Answers probes: that this process calls and is called over its own connection, and that what it consumes besides
 * comes in.
 */
export async function serveProbe(worker: Worker, mesh: Mesh, arrivals: Arrivals): Promise<void> {
  const { config, note, on, persist } = worker;
  const name = `probe-${config.name}`;
  await persist(() => serve({ ping: () => "pong" }, { name, mesh }));
  note("b");
  const probe = async (number: string) => {
    for (;;) {
      try {
        await mesh.request(name, "ping", {}, { ttl: PROBE_TTL, encrypted: false });
        await arrivals.next();
        return note(`p ${number} ${Date.now()}`);
      } catch {
        await new Promise((resolve) => setTimeout(resolve, PROBE_PAUSE_MS));
      }
    }
  };
  on("probe", (number) => void probe(number));
}

/** Collects where the runtime lets us, and notes what is left. */
async function measureMemory(note: (line: string) => void): Promise<void> {
  for (let round = 0; round < 3; round++) {
    collect();
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  const { rss, heapUsed } = process.memoryUsage();
  note(`y ${rss} ${heapUsed}`);
}

function collect(): void {
  const { gc, Bun } = globalThis as { gc?: () => void; Bun?: { gc(force: boolean): void } };
  if (Bun === undefined) gc?.();
  else Bun.gc(true);
}
