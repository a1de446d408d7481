/**
 * What the interoperability tests share.
 *
 * @module
 */
import type { Logger } from "@nuropb/mesh";
import { describe } from "@std/testing/bdd";
import { managementUrl, python, rabbitmqUrl } from "../support/env.ts";
import type { PythonPeer, Received } from "./python_peer.ts";

const DEADLINE_MS = 10_000;

/** A group of tests that needs a broker and Python; skipped where one of them is missing. */
export function describeWithPython(name: string, body: () => void): void {
  const possible = rabbitmqUrl() !== undefined && python() !== undefined;
  (possible ? describe : describe.skip)(name, body);
}

/** As `describeWithPython`, with the management API besides. */
export function describeWithManagement(name: string, body: () => void): void {
  (managementUrl() === undefined ? describe.skip : describeWithPython)(name, body);
}

/** The virtual host of this file. */
export function brokerUrl(): string {
  const url = rabbitmqUrl();
  if (url === undefined) throw new Error("NUROPB_TEST_URL is not set");
  return url;
}

/** A trace of its own for a test, by which it finds its messages again. */
export function newTrace(): string {
  return `trace-${crypto.randomUUID()}`;
}

/** What a call rejects with. */
export async function rejection(call: Promise<unknown>): Promise<unknown> {
  return await call.then(
    (value) => {
      throw new Error(`It resolved with ${JSON.stringify(value)}`);
    },
    (error: unknown) => error,
  );
}

/** Waits for a promise, but not for ever. */
export async function inTime<Value>(what: string, promise: Promise<Value>): Promise<Value> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${DEADLINE_MS} ms`)), DEADLINE_MS);
  });
  return await Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Asks again and again until there is an answer: for what the broker does on its own account. */
export async function eventually<Value>(what: string, ask: () => Promise<Value | undefined>): Promise<Value> {
  for (const deadline = Date.now() + DEADLINE_MS; Date.now() < deadline;) {
    const value = await ask();
    if (value !== undefined) return value;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`${what}: not within ${DEADLINE_MS} ms`);
}

/**
 * What a Python service has got under a trace. It takes one message at a time, so whatever was in its queue
 * before is among them.
 */
export async function receivedBy(
  { service }: PythonPeer,
  mesh: { request<Result>(service: string, method: string, params: object): Promise<Result> },
  traceId: string,
): Promise<Received[]> {
  return await mesh.request<Received[]>(service, "received", { trace_id: traceId });
}

/** Values that come one by one, and can be awaited. */
export class Inbox<Value> {
  readonly #values: Value[] = [];
  readonly #waiting = new Set<(value: Value) => void>();

  /** Takes one in. */
  put(value: Value): void {
    const [waiting] = this.#waiting;
    if (waiting === undefined) this.#values.push(value);
    else waiting(value);
  }

  /** The next one. */
  async next(): Promise<Value> {
    if (this.#values.length > 0) return this.#values.shift() as Value;
    let take: (value: Value) => void = () => {};
    const taken = new Promise<Value>((resolve) => {
      take = (value) => {
        this.#waiting.delete(take);
        resolve(value);
      };
      this.#waiting.add(take);
    });
    return await inTime("the next value", taken).finally(() => this.#waiting.delete(take));
  }

  /** How many have come and were not taken. */
  get size(): number {
    return this.#values.length;
  }
}

/** One line of a log. */
export interface LogLine {
  readonly level: keyof Logger;
  readonly message: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** A logger that keeps its lines, and that can be waited for. */
export class LogRecorder implements Logger {
  readonly lines: LogLine[] = [];
  readonly #watchers = new Set<() => void>();

  readonly debug = this.#level("debug");
  readonly info = this.#level("info");
  readonly warn = this.#level("warn");
  readonly error = this.#level("error");

  /** Waits until there are this many lines that match, and gives them. */
  async until(count: number, matches: (line: LogLine) => boolean): Promise<LogLine[]> {
    const found = new Promise<LogLine[]>((resolve) => {
      const look = () => {
        const matching = this.lines.filter(matches);
        if (matching.length < count) return;
        this.#watchers.delete(look);
        resolve(matching);
      };
      this.#watchers.add(look);
      look();
    });
    return await inTime(`${count} lines in the log`, found);
  }

  #level(level: keyof Logger): Logger["debug"] {
    return (message, fields = {}) => {
      this.lines.push({ level, message, fields });
      for (const look of [...this.#watchers]) look();
    };
  }
}
