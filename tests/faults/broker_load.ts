/**
 * A service under load, and the ledger of it: what was sent, confirmed, handled, answered, and failed how.
 *
 * @module
 */
import assert from "node:assert/strict";
import { NuropbException } from "@nuropb/mesh";
import type { Mesh } from "@nuropb/mesh";
import { eventually, pass, within } from "../conformance/stage.ts";
import { uniqueName } from "../support/env.ts";

/** How many requests, commands and events each are under way at once. */
const LANES = 4;
/** Between two of one lane, in ms: enough for a fault to meet some of them, whenever it comes. */
const PAUSE = 5;
/** How long the service is at work on one message, in ms. */
const WORK = 5;
/** How many commands and events may lie in the queue. */
const BACKLOG = 200;
/** Longer than any fault lasts, and shorter than a test may. In ms. */
const TTL = 30_000;

/** What a service does that is called by a {@linkcode Load}. */
export class Ledger {
  readonly topic: string = uniqueName("topic");
  /** How many times each command and event was handled, by its number. */
  readonly handled = new Map<number, number>();

  /** To be served. */
  readonly instance = {
    work: async ({ number }: { number: number }) => {
      await pass(WORK);
      return number;
    },
    note: ({ number }: { number: number }) => this.#handle(number),
  };

  /** To be served with it. */
  readonly events = { [this.topic]: (number: unknown) => this.#handle(number as number) };

  async #handle(number: number): Promise<void> {
    await pass(WORK);
    this.handled.set(number, (this.handled.get(number) ?? 0) + 1);
  }
}

/** Requests, commands and events, one after the other on several lanes, until it is stopped. */
export class Load {
  /** How requests ended: `answered`, or the code of the error. */
  readonly requests = new Map<string, number>();
  /** How commands and events ended: `confirmed`, or the code of the error. */
  readonly messages = new Map<string, number>();
  /** When the last answer came, as `performance.now()` tells it. */
  answeredAt = 0;
  readonly #mesh: Mesh;
  readonly #service: string;
  readonly #ledger: Ledger;
  /** The number of each message that the broker has confirmed, and what it is. */
  readonly #confirmed = new Map<number, "command" | "event">();
  readonly #lanes: Promise<void>[];
  #last = 0;
  #stopped = false;

  /** Starts at once. @param mesh Who calls. @param service Who is called. @param ledger What that one serves. */
  constructor(mesh: Mesh, service: string, ledger: Ledger) {
    this.#mesh = mesh;
    this.#service = service;
    this.#ledger = ledger;
    const steps = [() => this.#request(), () => this.#command(), () => this.#publish()];
    this.#lanes = steps.flatMap((step) => Array.from({ length: LANES }, () => this.#run(step)));
  }

  /** Waits for an answer that comes after this moment, and gives how long that took, in ms. */
  async nextAnswer(): Promise<number> {
    const start = performance.now();
    const at = await eventually(() => this.answeredAt, (at) => at > start);
    return at - start;
  }

  /** Waits until more of everything went well than when it was called. */
  async goesOn(): Promise<void> {
    const before = this.#done();
    const isMore = (done: readonly number[]) =>
      done.every((count, index) => count > before[index]! + 2 * LANES);
    await eventually(() => this.#done(), isMore).catch((cause) => {
      const outcomes = JSON.stringify([...this.requests, ...this.messages]);
      throw new Error(`It came from ${before} only to ${this.#done()}: ${outcomes}`, { cause });
    });
  }

  /**
   * Sends no more, waits for what is under way, and checks that nothing is hung and nothing confirmed is lost.
   *
   * @param failures The codes of errors that requests may have ended with; commands and events may with none.
   */
  async end(...failures: readonly string[]): Promise<void> {
    this.#stopped = true;
    await within(Promise.all(this.#lanes), TTL + 5_000);
    assert.deepEqual([...this.messages.keys()], ["confirmed"]);
    for (const outcome of this.requests.keys()) {
      assert.ok(["answered", ...failures].includes(outcome), `A request ended with ${outcome}`);
    }
    const lost = () => [...this.#confirmed].filter(([number]) => !this.#ledger.handled.has(number));
    await eventually(lost, ({ length }) => length === 0).catch((cause) => {
      throw new Error(`Confirmed and not handled, of ${this.#last}: ${lost().join(" ")}`, { cause });
    });
  }

  #done(): [answered: number, confirmed: number, handled: number] {
    return [this.requests.get("answered") ?? 0, this.#confirmed.size, this.#ledger.handled.size];
  }

  async #run(step: () => Promise<void>): Promise<void> {
    // A test that failed has closed the mesh, and is not to burden the next one.
    while (!this.#stopped && this.#mesh.status.state !== "closed") {
      await step();
      await pass(PAUSE);
    }
  }

  async #request(): Promise<void> {
    const number = ++this.#last;
    await this.#count(this.requests, async () => {
      assert.equal(await this.#mesh.request(this.#service, "work", { number }, { ttl: TTL }), number);
      this.answeredAt = performance.now();
      return "answered";
    });
  }

  async #command(): Promise<void> {
    const number = ++this.#last;
    await this.#confirm(number, "command", () => this.#mesh.command(this.#service, "note", { number }));
  }

  async #publish(): Promise<void> {
    const number = ++this.#last;
    await this.#confirm(number, "event", () => this.#mesh.publish(this.#ledger.topic, number));
  }

  async #confirm(number: number, kind: "command" | "event", send: () => Promise<void>): Promise<void> {
    await this.#count(this.messages, async () => {
      // Else the queue grows while the service is away, and requests wait behind what is in it.
      const isShort = (length: number) => length < BACKLOG || this.#stopped;
      await eventually(() => this.#confirmed.size - this.#ledger.handled.size, isShort, TTL);
      await send();
      this.#confirmed.set(number, kind);
      return "confirmed";
    });
  }

  async #count(outcomes: Map<string, number>, attempt: () => Promise<string>): Promise<void> {
    const outcome = await attempt().catch((error: unknown) =>
      error instanceof NuropbException ? error.code : String(error)
    );
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  }
}
