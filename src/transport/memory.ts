/**
 * The embedded broker as a {@linkcode Connection}: `memory:` urls.
 *
 * @module
 */
import { NuropbNotDeliveredError, NuropbTransportError } from "../errors.ts";
import { checkSize, oversizeOf } from "../message.ts";
import type { Message } from "../message.ts";
import { MemoryBroker } from "./memory_broker.ts";
import { guard, MemoryConsumer } from "./memory_consumer.ts";
import type { ConsumerOwner } from "./memory_consumer.ts";
import { copyMessage, copyProperties } from "./memory_message.ts";
import type { MemoryLink } from "./memory_queue.ts";
import { meshExchanges, privateQueue } from "./topology.ts";
import type { Declaration } from "./topology.ts";
import type {
  Connection,
  ConnectionHandlers,
  ConsumeOptions,
  Consumer,
  ConsumerHandlers,
} from "./transport.ts";

/** Which broker, and how to use it. */
export interface MemoryOptions {
  /** What follows `memory:` in the url; empty for the one without a name. */
  readonly name: string;
  /** The exclusive queue for answers; absent for direct reply-to. */
  readonly replyQueue?: string | undefined;
  /** Whether to make sure of the mesh's exchanges. */
  readonly declare: boolean;
  /** The largest body sent, or taken in, in bytes. */
  readonly maxMessageSize: number;
}

/** Brokers live as long as the process, as what is durable in them must outlast every connection. */
const brokers = new Map<string, MemoryBroker>();

/**
 * The broker that everyone in the process means by `memory:` and this name: to look into it, and to break its
 * connections in tests. Made when it is first named.
 */
export function memoryBroker(name: string): MemoryBroker {
  let broker = brokers.get(name);
  if (broker === undefined) brokers.set(name, broker = new MemoryBroker(name));
  return broker;
}

/**
 * Opens a connection to a broker in the process.
 *
 * @throws {NuropbTransportError} when it refuses a declaration. Rejects with the signal's reason on abort.
 */
export async function openMemory(
  options: MemoryOptions,
  handlers: ConnectionHandlers,
  signal: AbortSignal,
): Promise<Connection> {
  signal.throwIfAborted();
  await undefined;
  signal.throwIfAborted();
  return new MemoryConnection(memoryBroker(options.name), options, handlers);
}

class MemoryConnection implements Connection {
  readonly replyTo: string;
  readonly ready = true;
  readonly blocked = undefined;
  readonly #broker: MemoryBroker;
  readonly #handlers: ConnectionHandlers;
  readonly #maxMessageSize: number;
  readonly #link: MemoryLink;
  /** Where it is attached to the broker. */
  readonly #address: string;
  readonly #consumers = new Set<MemoryConsumer>();
  readonly #owner: ConsumerOwner;
  /** Answers that came in this turn. */
  #answers: Message[] = [];
  #state: { readonly is: "open" | "closed" } | { readonly is: "lost"; readonly error: NuropbTransportError } =
    {
      is: "open",
    };

  constructor(broker: MemoryBroker, options: MemoryOptions, handlers: ConnectionHandlers) {
    this.#broker = broker;
    this.#handlers = handlers;
    this.#maxMessageSize = options.maxMessageSize;
    this.#link = { reply: (message) => this.#answer(message), lose: (error) => this.#lose(error) };
    this.#owner = {
      later: (task) => this.#later(task),
      publish: (message) => {
        checkSize(message, this.#maxMessageSize);
        this.#broker.publish(message);
      },
      receive: (stored) => this.#receive(stored.message),
      forget: (consumer) => this.#consumers.delete(consumer),
    };
    this.#address = broker.attach(this.#link);
    this.replyTo = options.replyQueue ?? this.#address;
    try {
      if (options.declare) broker.declare(meshExchanges, this.#link);
      if (options.replyQueue !== undefined) this.#consumeReplies(options.replyQueue);
    } catch (error) {
      broker.detach(this.#address);
      throw error;
    }
  }

  send(message: Message): void {
    this.#checkOpen();
    checkSize(message, this.#maxMessageSize);
    try {
      if (this.#broker.publish(message)) return;
    } catch (error) {
      // The broker would close the channel that requests leave on and answers come in on.
      this.#later(() => this.#handlers.onreset(error as NuropbTransportError, true));
      return;
    }
    const returned = copyMessage(message);
    this.#later(() => this.#handlers.onreturn(returned));
  }

  async publish(message: Message, mandatory: boolean): Promise<void> {
    this.#checkOpen();
    checkSize(message, this.#maxMessageSize);
    const routed = this.#broker.publish(message);
    await new Promise<void>((resolve) => this.#broker.defer(resolve));
    this.#checkNotLost();
    if (mandatory && !routed) {
      throw new NuropbNotDeliveredError(
        `No queue takes '${message.routingKey}' from the exchange '${message.exchange}'`,
      );
    }
  }

  async declare(declarations: readonly Declaration[]): Promise<void> {
    this.#checkOpen();
    this.#broker.declare(declarations, this.#link);
    await undefined;
    this.#checkNotLost();
  }

  async consume(
    { queue: name, topology, prefetch }: ConsumeOptions,
    handlers: ConsumerHandlers,
  ): Promise<Consumer> {
    this.#checkOpen();
    this.#broker.declare(topology, this.#link);
    const queue = this.#broker.queue(name, this.#link);
    const consumer = new MemoryConsumer(queue, prefetch, handlers, this.#owner);
    this.#consumers.add(consumer);
    queue.add(consumer);
    await undefined;
    this.#checkOpen();
    return consumer;
  }

  async close(): Promise<void> {
    if (this.#state.is !== "open") return;
    this.#state = { is: "closed" };
    this.#detach();
    await undefined;
    guard(() => this.#handlers.onclose());
  }

  #lose(error: NuropbTransportError): void {
    this.#state = { is: "lost", error };
    this.#detach();
    // Never deferred any longer: until it is told, its owner may try to use the connection again and again.
    queueMicrotask(() => guard(() => this.#handlers.onclose(error)));
  }

  #detach(): void {
    for (const consumer of this.#consumers) consumer.detach();
    this.#consumers.clear();
    this.#broker.detach(this.#address);
  }

  #consumeReplies(name: string): void {
    this.#broker.declare([privateQueue(name)], this.#link);
    const queue = this.#broker.queue(name, this.#link);
    queue.add({
      hasRoom: true,
      take: (stored) => {
        queue.settle(stored, "ack");
        guard(() => this.#handlers.onreply(this.#receive(stored.message)));
      },
      end: (error) => {
        if (this.#state.is !== "open") return;
        this.#consumeReplies(name);
        this.#later(() => this.#handlers.onreset(error, true));
      },
    });
  }

  #answer(message: Message): void {
    if (this.#answers.push(message) > 1) return;
    this.#broker.defer(() => {
      const answers = this.#answers;
      this.#answers = [];
      for (const answer of answers) {
        if (this.#state.is === "open") guard(() => this.#handlers.onreply(this.#limit(answer)));
      }
    });
  }

  #receive(message: Message): Message {
    return { ...this.#limit(message), properties: copyProperties(message.properties) };
  }

  /** Drops a body that is too large for this side, and tells its size. */
  #limit(message: Message): Message {
    const oversize = oversizeOf(message.body, this.#maxMessageSize);
    return oversize === undefined ? message : { ...message, body: "", oversize };
  }

  #later(task: () => void): void {
    this.#broker.defer(() => {
      if (this.#state.is === "open") guard(task);
    });
  }

  #checkOpen(): void {
    this.#checkNotLost();
    if (this.#state.is === "closed") {
      throw new NuropbTransportError(`The connection to memory:${this.#broker.name} was closed`, {
        code: "CLOSED",
      });
    }
  }

  #checkNotLost(): void {
    if (this.#state.is === "lost") {
      throw new NuropbTransportError(this.#state.error.message, { cause: this.#state.error });
    }
  }
}
