/**
 * Keeps an instance from handling the same message twice.
 *
 * @module
 */
import { deferred } from "../deferred.ts";
import { bytesOf } from "../message.ts";
import type { Message } from "../message.ts";
import type { Delivery } from "../transport/transport.ts";
import { replyAddress } from "./reply.ts";

/** How much an instance remembers. */
export interface DedupeOptions {
  /** How many finished messages are remembered, with their answers. @default {10_000} */
  size?: number;
  /** For how long, in ms. @default {60_000} */
  ttl?: number;
}

/** What became of a message. */
type Outcome =
  /** Handled; a request has its answer. */
  | { readonly is: "finished"; readonly answer: Message | undefined }
  /** To be handled again: called again, or on its way to the dead letters, from where it may be replayed. */
  | { readonly is: "open" };

/** Remembers finished messages, and knows a second one by its correlation id and body. */
export class Deduplicator {
  readonly #size: number;
  readonly #ttl: number;
  readonly #running = new Map<string, Promise<Outcome>>();
  /** In the order in which they finished. */
  readonly #finished = new Map<string, { readonly until: number; readonly answer: Message | undefined }>();

  /** @param size How many messages. @param ttl In ms. */
  constructor({ size, ttl }: Required<DedupeOptions>) {
    this.#size = size;
    this.#ttl = ttl;
  }

  /** Handles a delivery, unless one like it was handled, or is just now: that one's answer serves both. */
  async once(delivery: Delivery, handle: (delivery: Delivery) => Promise<void> | void): Promise<void> {
    const key = await keyOf(delivery);
    if (key === undefined) return await handle(delivery);
    for (;;) {
      const running = this.#running.get(key);
      // Without a turn in between, in which a twin could begin.
      const outcome = this.#recall(key) ?? (running && await running);
      if (outcome === undefined) break;
      if (outcome.is === "finished") return repeat(outcome.answer, delivery);
    }
    const { promise, resolve } = deferred<Outcome>();
    this.#running.set(key, promise);
    const observed = new ObservedDelivery(delivery);
    try {
      await handle(observed);
    } finally {
      this.#running.delete(key);
      if (observed.outcome.is === "finished") this.#remember(key, observed.outcome.answer);
      resolve(observed.outcome);
    }
  }

  #recall(key: string): Outcome | undefined {
    const entry = this.#finished.get(key);
    return entry !== undefined && entry.until > Date.now()
      ? { is: "finished", answer: entry.answer }
      : undefined;
  }

  #remember(key: string, answer: Message | undefined): void {
    const now = Date.now();
    for (const [oldest, { until }] of this.#finished) {
      if (until > now && this.#finished.size < this.#size) break;
      this.#finished.delete(oldest);
    }
    this.#finished.set(key, { until: now + this.#ttl, answer });
  }
}

/** Passes everything on, and tells what became of the delivery. */
class ObservedDelivery implements Delivery {
  outcome: Outcome = { is: "open" };
  readonly exchange: string;
  readonly routingKey: string;
  readonly properties: Message["properties"];
  readonly body: Message["body"];
  readonly oversize: number | undefined;
  readonly redelivered: boolean;
  readonly #delivery: Delivery;
  #answer: Message | undefined;

  constructor(delivery: Delivery) {
    this.exchange = delivery.exchange;
    this.routingKey = delivery.routingKey;
    this.properties = delivery.properties;
    this.body = delivery.body;
    this.oversize = delivery.oversize;
    this.redelivered = delivery.redelivered;
    this.#delivery = delivery;
  }

  get settled(): boolean {
    return this.#delivery.settled;
  }

  reply(message: Message): void {
    this.#answer = message;
    this.#delivery.reply(message);
  }

  ack(): void {
    this.outcome = { is: "finished", answer: this.#answer };
    this.#delivery.ack();
  }

  reject(): void {
    this.#delivery.reject();
  }

  requeue(): void {
    this.#delivery.requeue();
  }
}

/** Also of the body, so that whoever learns of an id gets no one else's answer by it. */
async function keyOf({ properties, body }: Delivery): Promise<string | undefined> {
  if (properties.correlationId === undefined) return undefined;
  const digest = new Uint8Array(
    await crypto.subtle.digest("SHA-256", bytesOf(body) as Uint8Array<ArrayBuffer>),
  );
  return `${properties.correlationId} ${String.fromCharCode(...digest)}`;
}

function repeat(answer: Message | undefined, delivery: Delivery): void {
  // The caller may have another queue for answers by now.
  const replyTo = replyAddress(delivery.properties.replyTo);
  if (answer !== undefined && replyTo !== undefined) delivery.reply({ ...answer, routingKey: replyTo });
  delivery.ack();
}
