/**
 * Consuming from the embedded broker.
 *
 * @module
 */
import { NuropbTransportError } from "../errors.ts";
import type { Message } from "../message.ts";
import type { MemoryQueue, QueueConsumer, Settlement, StoredMessage } from "./memory_queue.ts";
import type { Consumer, ConsumerHandlers, Delivery } from "./transport.ts";

/** What a consumer asks of its connection. */
export interface ConsumerOwner {
  /** Runs a task later, unless the connection has ended by then. */
  later(task: () => void): void;
  publish(message: Message): void;
  receive(stored: StoredMessage): Message;
  forget(consumer: MemoryConsumer): void;
}

export class MemoryConsumer implements Consumer, QueueConsumer {
  readonly #queue: MemoryQueue;
  readonly #prefetch: number;
  readonly #handlers: ConsumerHandlers;
  readonly #owner: ConsumerOwner;
  readonly #unsettled = new Map<MemoryDelivery, StoredMessage>();
  #ended = false;
  /** By its owner, who is then told nothing more. */
  #closed = false;

  constructor(queue: MemoryQueue, prefetch: number, handlers: ConsumerHandlers, owner: ConsumerOwner) {
    this.#queue = queue;
    // As in AMQP, a prefetch of 0 is none at all.
    this.#prefetch = prefetch || Infinity;
    this.#handlers = handlers;
    this.#owner = owner;
  }

  get hasRoom(): boolean {
    return this.#unsettled.size < this.#prefetch;
  }

  /** Whether a delivery is still to be settled. */
  holds(delivery: MemoryDelivery): boolean {
    return this.#unsettled.has(delivery);
  }

  take(stored: StoredMessage): void {
    const delivery = new MemoryDelivery(this, this.#owner.receive(stored), stored.returns > 0);
    this.#unsettled.set(delivery, stored);
    guard(() => this.#handlers.ondelivery(delivery));
  }

  /** Each delivery counts once: the same message may be here again as another one. */
  settle(delivery: MemoryDelivery, settlement: Settlement): void {
    const stored = this.#unsettled.get(delivery);
    if (stored === undefined) return;
    this.#unsettled.delete(delivery);
    this.#queue.settle(stored, settlement);
  }

  reply(message: Message): void {
    if (this.#ended) return;
    try {
      this.#owner.publish(message);
    } catch (error) {
      if (!(error instanceof NuropbTransportError)) throw error;
      // The broker would close the consumer's channel.
      this.end(error);
    }
  }

  end(error: NuropbTransportError): void {
    this.detach();
    this.#owner.forget(this);
    this.#owner.later(() => {
      if (!this.#closed) this.#handlers.onend(error);
    });
  }

  /** Ends it without a word. */
  detach(): void {
    this.#ended = true;
    this.#queue.remove(this);
    for (const stored of this.#unsettled.values()) this.#queue.settle(stored, "requeue");
    this.#unsettled.clear();
  }

  async cancel(): Promise<void> {
    this.#queue.remove(this);
    await undefined;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.detach();
    this.#owner.forget(this);
    await undefined;
  }
}

class MemoryDelivery implements Delivery {
  readonly exchange: string;
  readonly routingKey: string;
  readonly properties: Message["properties"];
  readonly body: Message["body"];
  readonly oversize: number | undefined;
  readonly redelivered: boolean;
  readonly #consumer: MemoryConsumer;

  constructor(consumer: MemoryConsumer, message: Message, redelivered: boolean) {
    this.exchange = message.exchange;
    this.routingKey = message.routingKey;
    this.properties = message.properties;
    this.body = message.body;
    this.oversize = message.oversize;
    this.redelivered = redelivered;
    this.#consumer = consumer;
  }

  get settled(): boolean {
    return !this.#consumer.holds(this);
  }

  reply(message: Message): void {
    this.#consumer.reply(message);
  }

  ack(): void {
    this.#consumer.settle(this, "ack");
  }

  reject(): void {
    this.#consumer.settle(this, "reject");
  }

  requeue(): void {
    this.#consumer.settle(this, "requeue");
  }
}

/** Handlers do not throw by contract; one that does must not keep the others from their messages. */
export function guard(tell: () => void): void {
  try {
    tell();
  } catch {
    // Its owner's fault, and nothing that the broker could tell anyone.
  }
}
