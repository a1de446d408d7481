/**
 * A queue of the embedded broker: order, prefetch, redelivery and expiry.
 *
 * @module
 */
import type { NuropbTransportError } from "../errors.ts";
import type { Message } from "../message.ts";
import { MAX_MILLISECONDS } from "../options.ts";
import { copyMessage } from "./memory_message.ts";
import type { QueueDeclaration } from "./topology.ts";

/** What the broker asks of an open connection. */
export interface MemoryLink {
  /** Its direct reply-to address was published to. The message is its own. */
  reply(message: Message): void;
  /** The link broke. */
  lose(error: NuropbTransportError): void;
}

/** What a queue asks of a consumer. */
export interface QueueConsumer {
  /** Whether its prefetch allows for one more message. */
  readonly hasRoom: boolean;
  /** Takes a message, to be settled with {@linkcode MemoryQueue.settle}. */
  take(stored: StoredMessage): void;
  /** The queue is gone. */
  end(error: NuropbTransportError): void;
}

/** A message in a queue. */
export interface StoredMessage {
  /** The queue's own copy. Whoever hands it out copies the properties again, since a death adds to them. */
  readonly message: Message;
  /** Its place in the queue. */
  readonly sequence: number;
  /** When it expires, on the clock of `performance.now()`. */
  readonly expiresAt: number;
  /** How often it came back unsettled. */
  returns: number;
}

/** How a delivery ends. */
export type Settlement = "ack" | "reject" | "requeue";

/** What {@linkcode MemoryBroker.queues} tells of a queue. */
export interface MemoryQueueInfo {
  readonly name: string;
  /** Messages that wait for a consumer. */
  readonly ready: number;
  /** Messages that were delivered and not settled. */
  readonly unacked: number;
  readonly consumers: number;
}

/** Why a message goes to the dead letters. */
export type DeathReason = "rejected" | "expired" | "delivery_limit";

/** What a queue asks of its broker. */
export interface QueueHost {
  readonly awake: boolean;
  defer(task: () => void): void;
  bury(message: Message, queue: MemoryQueue, reason: DeathReason): void;
  drop(queue: MemoryQueue): void;
}

/** A queue with its consumers. */
export class MemoryQueue {
  readonly declaration: QueueDeclaration;
  /** The connection that alone may use it, of an exclusive queue. */
  readonly owner: MemoryLink | undefined;
  /** What the default exchange routes to. */
  readonly itself: ReadonlySet<MemoryQueue> = new Set([this]);
  readonly #host: QueueHost;
  readonly #deliveryLimit: number;
  readonly #fresh = new Fifo<StoredMessage>();
  /** What came back, the oldest last. All of it is older than what is fresh, and so is delivered before. */
  readonly #returned: StoredMessage[] = [];
  readonly #consumers: QueueConsumer[] = [];
  #turn = 0;
  #sequence = 0;
  #unacked = 0;
  #closed = false;
  /** Whether a pass is to come. */
  #awake = false;
  /** When it was asked for: how long the process takes to get to it is no time spent in the queue. */
  #awakeSince = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #timerDue = Infinity;

  constructor(declaration: QueueDeclaration, owner: MemoryLink | undefined, host: QueueHost) {
    this.declaration = { ...declaration, arguments: { ...declaration.arguments } };
    this.owner = owner;
    this.#host = host;
    this.#deliveryLimit = Number(declaration.arguments["x-delivery-limit"] ?? Infinity);
  }

  /** How many messages wait for a consumer. */
  get ready(): number {
    return this.#fresh.length + this.#returned.length;
  }

  /** How many messages were delivered and not settled. */
  get unacked(): number {
    return this.#unacked;
  }

  /** How many consumers it has. */
  get consumers(): number {
    return this.#consumers.length;
  }

  /** Takes a copy of a message in. */
  push(message: Message): void {
    this.wake();
    const { expiration } = message.properties;
    this.#fresh.push({
      message: copyMessage(message),
      sequence: this.#sequence++,
      expiresAt: expiration === undefined ? Infinity : performance.now() + Number(expiration),
      returns: 0,
    });
  }

  /** Settles a delivery. */
  settle(stored: StoredMessage, settlement: Settlement): void {
    if (this.#closed) return;
    this.#unacked--;
    if (settlement === "requeue") this.#takeBack(stored);
    else if (settlement === "reject") this.#host.bury(stored.message, this, "rejected");
    if (this.ready > 0) this.wake();
  }

  /** Gives a consumer its turn among the others. */
  add(consumer: QueueConsumer): void {
    this.#consumers.push(consumer);
    this.wake();
  }

  /** Takes a consumer away, and with the last one a queue that deletes itself. */
  remove(consumer: QueueConsumer): void {
    const index = this.#consumers.indexOf(consumer);
    if (index < 0) return;
    this.#consumers.splice(index, 1);
    if (index < this.#turn) this.#turn--;
    if (this.#consumers.length === 0 && this.declaration.autoDelete) this.#host.drop(this);
  }

  /** Has messages expired and delivered soon. */
  wake(): void {
    if (this.#awake) return;
    this.#awake = true;
    this.#awakeSince = performance.now();
    this.#host.defer(this.#pass);
  }

  /** Stops the timer, which the next pass sets anew. */
  sleep(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#timerDue = Infinity;
  }

  /** Forgets every message and consumer. */
  close(error: NuropbTransportError): void {
    this.#closed = true;
    this.sleep();
    this.#fresh.clear();
    this.#returned.length = 0;
    this.#unacked = 0;
    for (const consumer of this.#consumers.splice(0)) consumer.end(error);
  }

  readonly #pass = (): void => {
    // Bounded, so that a consumer that gives everything back at once lets others work.
    let budget = this.ready;
    for (let head = this.#head(); head !== undefined; head = this.#head()) {
      if (head.expiresAt < this.#awakeSince) {
        this.#shift();
        this.#host.bury(head.message, this, "expired");
        continue;
      }
      if (budget-- === 0) break;
      const consumer = this.#nextConsumer();
      if (consumer === undefined) break;
      this.#shift();
      this.#unacked++;
      consumer.take(head);
    }
    this.#awake = false;
    if (budget < 0) this.wake();
    else this.#watchHead();
  };

  /** As RabbitMQ does, a message is seen to have expired only once it is the next to be delivered. */
  #watchHead(): void {
    const due = this.#head()?.expiresAt ?? Infinity;
    if (due >= this.#timerDue || !this.#host.awake) return;
    clearTimeout(this.#timer);
    this.#timerDue = due;
    this.#timer = setTimeout(() => {
      this.sleep();
      this.wake();
    }, Math.min(Math.max(0, due - performance.now()) + 1, MAX_MILLISECONDS));
  }

  #head(): StoredMessage | undefined {
    return this.#returned.at(-1) ?? this.#fresh.first;
  }

  #shift(): void {
    if (this.#returned.pop() === undefined) this.#fresh.shift();
  }

  #nextConsumer(): QueueConsumer | undefined {
    const count = this.#consumers.length;
    for (let tried = 0; tried < count; tried++) {
      if (this.#turn >= count) this.#turn = 0;
      const consumer = this.#consumers[this.#turn++]!;
      if (consumer.hasRoom) return consumer;
    }
    return undefined;
  }

  /** Puts a message where it was, unless it came back too often. */
  #takeBack(stored: StoredMessage): void {
    if (++stored.returns > this.#deliveryLimit) {
      return this.#host.bury(stored.message, this, "delivery_limit");
    }
    let low = 0;
    let high = this.#returned.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#returned[middle]!.sequence > stored.sequence) low = middle + 1;
      else high = middle;
    }
    this.#returned.splice(low, 0, stored);
  }
}

/** First in, first out, in a ring: `Array.shift` takes time with every message that waits. */
class Fifo<Item> {
  #slots: (Item | undefined)[] = new Array(16);
  #start = 0;
  #length = 0;

  get length(): number {
    return this.#length;
  }

  get first(): Item | undefined {
    return this.#slots[this.#start];
  }

  push(item: Item): void {
    const slots = this.#slots;
    if (this.#length === slots.length) {
      this.#slots = slots.slice(this.#start).concat(slots.slice(0, this.#start), new Array(slots.length));
      this.#start = 0;
    }
    this.#slots[(this.#start + this.#length++) & (this.#slots.length - 1)] = item;
  }

  shift(): void {
    if (this.#length === 0) return;
    this.#slots[this.#start] = undefined;
    this.#start = (this.#start + 1) & (this.#slots.length - 1);
    // What a burst needed is given back after it.
    if (--this.#length === 0 && this.#slots.length > 1024) this.clear();
  }

  clear(): void {
    this.#slots = new Array(16);
    this.#start = this.#length = 0;
  }
}
