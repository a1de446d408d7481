/**
 * Promises that are settled from elsewhere, and waits that end with a signal.
 *
 * @module
 */
import { MAX_MILLISECONDS } from "./options.ts";

/** A promise with its two ends. `Promise.withResolvers` is missing on Node 20. */
export interface Deferred<Value> {
  readonly promise: Promise<Value>;
  readonly resolve: (value: Value) => void;
  readonly reject: (reason: unknown) => void;
}

/** Makes one. Its rejection counts as handled, for it may come before anyone waits. */
export function deferred<Value>(): Deferred<Value> {
  let resolve!: (value: Value) => void;
  let reject!: (reason: unknown) => void;
  const promise = new Promise<Value>((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  promise.catch(() => {});
  return { promise, resolve, reject };
}

/** Waits for a promise until a signal aborts, and rejects with its reason then. */
export function abortable<Value>(promise: Promise<Value>, signal: AbortSignal | undefined): Promise<Value> {
  if (signal === undefined) return promise;
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}

/** Those who wait for the same thing. Whoever gives up leaves nothing behind, as it would with one promise for all. */
export class Waiters {
  readonly #wakes = new Set<() => void>();

  /** How many wait. */
  get size(): number {
    return this.#wakes.size;
  }

  /** Waits until woken up. Rejects with the signal's reason. */
  wait(signal?: AbortSignal): Promise<void> {
    const { promise, resolve } = deferred<void>();
    this.#wakes.add(resolve);
    return abortable(promise, signal).finally(() => this.#wakes.delete(resolve));
  }

  /** Wakes all of them up. */
  wake(): void {
    for (const wake of this.#wakes) wake();
  }
}

/**
 * Runs something with a signal that aborts after a time, or when the caller's signal does.
 *
 * @param milliseconds How long it may take.
 * @param signal The caller's own.
 * @param timeout Makes the error for when the time is up.
 */
export async function withDeadline<Value>(
  milliseconds: number,
  signal: AbortSignal | undefined,
  timeout: () => Error,
  run: (signal: AbortSignal) => Promise<Value>,
): Promise<Value> {
  signal?.throwIfAborted();
  const controller = new AbortController();
  const timer = setTimeout(() => controller.abort(timeout()), Math.min(milliseconds, MAX_MILLISECONDS));
  const abort = () => controller.abort(signal?.reason);
  signal?.addEventListener("abort", abort, { once: true });
  try {
    return await abortable(run(controller.signal), controller.signal);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", abort);
  }
}

/** Resolves after a time, or rejects with the signal's reason. */
export function sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const elapsed = new Promise<void>((resolve) => timer = setTimeout(resolve, milliseconds));
  return abortable(elapsed, signal).finally(() => clearTimeout(timer));
}
