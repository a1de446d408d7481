/**
 * Deadlines of many waits, kept by one timer: one for each would cost more than most waits do otherwise.
 *
 * @module
 */
import { MAX_MILLISECONDS } from "./options.ts";

/** How late a deadline may be noticed, in ms. */
const RESOLUTION = 5;

/** Something that ends at a time. */
export interface Expiring {
  /** By the clock of `performance`. */
  readonly deadline: number;
  /** Where {@linkcode Deadlines} keeps it, which alone sets that; `NOWHERE` at first. */
  place: number;
}

/** The place of what is not kept. */
export const NOWHERE = -1;

/** Notices when items expire. */
export class Deadlines<Item extends Expiring> {
  readonly #expire: (item: Item) => void;
  /** Without a gap. A `Set` would hold what left it for much longer: see `CallTable`. */
  readonly #items: Item[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #end = Infinity;

  /** @param expire Called with each item whose time is up; it is not kept any longer then. */
  constructor(expire: (item: Item) => void) {
    this.#expire = expire;
  }

  /** Watches an item. */
  add(item: Item): void {
    item.place = this.#items.push(item) - 1;
    if (item.deadline < this.#end) this.#setTimer(item.deadline, item.deadline - performance.now());
  }

  /** Forgets an item, which did not expire. */
  delete(item: Item): void {
    const { place } = item;
    if (place === NOWHERE) return;
    const last = this.#items.pop()!;
    if (last !== item) {
      this.#items[place] = last;
      last.place = place;
    }
    item.place = NOWHERE;
    // The process may end now.
    if (this.#items.length === 0) this.#clearTimer();
  }

  #setTimer(end: number, delay: number): void {
    this.#clearTimer();
    this.#end = end;
    // The longest time there is may have grown by a fraction, and a timer that cannot keep it would ring at once.
    this.#timer = setTimeout(this.#check, Math.min(Math.max(0, delay), MAX_MILLISECONDS));
  }

  #clearTimer(): void {
    clearTimeout(this.#timer);
    this.#end = Infinity;
  }

  readonly #check = (): void => {
    this.#end = Infinity;
    const now = performance.now();
    const due = this.#items.filter(({ deadline }) => deadline <= now);
    for (const item of due.sort((one, other) => one.deadline - other.deadline)) {
      // What expires may take others with it.
      if (item.place === NOWHERE) continue;
      this.delete(item);
      this.#expire(item);
    }
    let next = Infinity;
    for (const { deadline } of this.#items) next = Math.min(next, deadline);
    // Not more often than that, however many end shortly after one another.
    if (this.#items.length > 0 && next < this.#end) {
      this.#setTimer(next, Math.max(RESOLUTION, Math.ceil(next - now)));
    }
  };
}

/** Gives a signal to whoever asks for it. */
export interface SignalSource {
  readonly signal: AbortSignal;
}

interface Wait extends Expiring {
  fail(reason: unknown): void;
  readonly timeout: () => Error;
}

/** Limits how long things may take: as `withDeadline` does, with one timer, and signals only where they are asked for. */
export class Waits {
  readonly #deadlines = new Deadlines<Wait>((wait) => wait.fail(wait.timeout()));
  #pending = 0;

  /** How many are under way. */
  get pending(): number {
    return this.#pending;
  }

  /**
   * Runs something that ends with the time, or with the caller's signal.
   *
   * @param milliseconds How long it may take. @param signal The caller's own.
   * @param timeout Makes the error for when the time is up.
   */
  run<Value>(
    milliseconds: number,
    signal: AbortSignal | undefined,
    timeout: () => Error,
    run: (source: SignalSource) => Promise<Value>,
  ): Promise<Value> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    return new Promise((resolve, reject) => {
      const source = new LazySignal();
      const wait: Wait = {
        deadline: performance.now() + milliseconds,
        place: NOWHERE,
        timeout,
        fail: (reason) => {
          end();
          reject(reason);
          source.abort(reason);
        },
      };
      const abort = signal && (() => wait.fail(signal.reason));
      const end = () => {
        this.#pending--;
        this.#deadlines.delete(wait);
        if (abort) signal.removeEventListener("abort", abort);
      };
      this.#pending++;
      this.#deadlines.add(wait);
      if (abort) signal.addEventListener("abort", abort);
      const settle = <Outcome>(settled: (outcome: Outcome) => void) => (outcome: Outcome) => {
        if (source.isAborted) return;
        end();
        settled(outcome);
      };
      let running: Promise<Value>;
      try {
        running = run(source);
      } catch (error) {
        running = Promise.reject(error);
      }
      running.then(settle(resolve), settle(reject));
    });
  }
}

/** Makes its signal when it is first asked for. */
class LazySignal implements SignalSource {
  #aborted: { readonly reason: unknown } | undefined;
  #controller: AbortController | undefined;

  get isAborted(): boolean {
    return this.#aborted !== undefined;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#aborted !== undefined) this.#controller.abort(this.#aborted.reason);
    }
    return this.#controller.signal;
  }

  abort(reason: unknown): void {
    this.#aborted = { reason };
    this.#controller?.abort(reason);
  }
}
