/**
 * Deliveries as an async iterable: events of a subscription, dead letters.
 *
 * @module
 */
import type { DeliveryStream } from "../calls.ts";
import { deferred } from "../deferred.ts";
import type { Deferred } from "../deferred.ts";
import type { Consumer } from "../transport/transport.ts";

/** Where a stream's items come from. */
export interface StreamSource<Item> {
  /** Starts to consume. What it hands on for each item is run when the loop takes it. */
  consume(onitem: (take: () => Item) => void): Promise<Consumer>;
  /** The stream has ended. */
  onclosed(): void;
}

/** The {@linkcode DeliveryStream} that a mesh gives. */
export class ConsumerStream<Item> implements DeliveryStream<Item> {
  readonly ready: Promise<void>;

  readonly #source: StreamSource<Item>;
  readonly #signal: AbortSignal | undefined;
  readonly #waiting: (() => Item)[] = [];
  /** Resolves for those who wait when there may be something for them; absent while nobody waits. */
  #wake: Deferred<void> | undefined;
  #consumer: Consumer | undefined;
  #closed = false;
  #failure: { readonly error: unknown } | undefined;

  constructor(source: StreamSource<Item>, signal: AbortSignal | undefined) {
    this.#source = source;
    this.#signal = signal;
    this.ready = this.#open();
    // The loop throws it; `ready` is for those who ask.
    this.ready.catch(() => {});
    signal?.addEventListener("abort", this.#abort);
  }

  /** Whether it has ended. */
  get closed(): boolean {
    return this.#closed;
  }

  async next(): Promise<IteratorResult<Item, undefined>> {
    for (;;) {
      const take = this.#waiting.shift();
      if (take !== undefined) return { done: false, value: take() };
      if (this.#failure !== undefined) {
        const { error } = this.#failure;
        this.#failure = undefined;
        throw error;
      }
      if (this.#closed) return { done: true, value: undefined };
      await (this.#wake ??= deferred<void>()).promise;
    }
  }

  async return(): Promise<IteratorResult<Item, undefined>> {
    await this.close();
    return { done: true, value: undefined };
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#signal?.removeEventListener("abort", this.#abort);
    this.#source.onclosed();
    this.#waiting.length = 0;
    this.#notify();
    await this.#consumer?.close();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  readonly #abort = (): void => {
    this.close().catch(() => {});
  };

  async #open(): Promise<void> {
    try {
      if (this.#signal?.aborted) {
        // Its owner is to know it before it hears of its end.
        await Promise.resolve();
        return await this.close();
      }
      const consumer = await this.#source.consume((take) => this.#push(take));
      this.#consumer = consumer;
      if (this.#closed) await consumer.close();
    } catch (error) {
      if (!this.#closed) this.#failure = { error };
      await this.close();
      throw error;
    }
  }

  /** Lets everyone look who waits. */
  #notify(): void {
    this.#wake?.resolve();
    this.#wake = undefined;
  }

  #push(take: () => Item): void {
    if (this.#closed) return;
    this.#waiting.push(take);
    this.#notify();
  }
}
