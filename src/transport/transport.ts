/**
 * What the mesh asks of a broker. One {@linkcode Connection} lives once, from open to closed; the supervisor makes
 * a new one when it is lost. RabbitMQ (`amqp.ts`) and the embedded broker (`memory.ts`) each give one.
 *
 * @module
 */
import type { SignalSource } from "../deadlines.ts";
import { NuropbTransportError } from "../errors.ts";
import type { NuropbException } from "../errors.ts";
import type { Message } from "../message.ts";
import type { Declaration } from "./topology.ts";

/** A message that a queue gave to a consumer. Exactly one of `ack`, `reject` and `requeue` settles it. */
export interface Delivery extends Message {
  /** Whether it was delivered before, and not settled. */
  readonly redelivered: boolean;
  /** Whether it is settled, or went back to the queue with its consumer. */
  readonly settled: boolean;
  /** Publishes on the consumer's own channel, so that the broker takes it before a later `ack`. */
  reply(message: Message): void;
  /** Done: the broker forgets it. */
  ack(): void;
  /** Not to be handled: the broker moves it to the dead letters. */
  reject(): void;
  /** Back to the queue, for any consumer. */
  requeue(): void;
}

/** How to consume. */
export interface ConsumeOptions {
  /** The queue to take messages from. */
  readonly queue: string;
  /** What is declared first. Empty where the account may not declare. */
  readonly topology: readonly Declaration[];
  /** How many messages may be unsettled at once. */
  readonly prefetch: number;
}

/** What a consumer is told. Neither may throw. */
export interface ConsumerHandlers {
  /** A message came. */
  ondelivery(delivery: Delivery): void;
  /** The broker cancelled the consumer or closed its channel; not called after `close`. */
  onend(error: NuropbTransportError): void;
}

/** A running consumer. */
export interface Consumer {
  /** Takes no more messages; those delivered can still be settled. */
  cancel(): Promise<void>;
  /** Ends it; what is unsettled goes back to the queue. */
  close(): Promise<void>;
}

/** What a connection tells its owner. None may throw. */
export interface ConnectionHandlers {
  /** An answer came. */
  onreply(message: Message): void;
  /** A request that `send` took came back: no queue takes its routing key. */
  onreturn(message: Message): void;
  /**
   * Answers to requests sent until now will not come; the connection itself goes on, or is opened in another way.
   *
   * @param taken Whether the broker may have taken them.
   */
  onreset(error: NuropbException, taken: boolean): void;
  /** The broker refused a request that `send` took, so that it may be sent again. */
  onrefused(message: Message): void;
  /** `send` can be used already, while the connection is being opened, so that requests go out with the handshake. */
  onpipelined(connection: Pick<Connection, "replyTo" | "send">): void;
  /** `ready` or `blocked` has changed. */
  onflow(): void;
  /** The connection is gone. Called once; without an error after `close`. */
  onclose(error?: NuropbTransportError): void;
}

/** The broker did not take a message: a queue is full, or between two nodes of a cluster. */
export class PublishRefused extends NuropbTransportError {
  constructor() {
    super("The broker refused the message", { code: "CHANNEL_CLOSED" });
  }
}

/** One open connection to a broker. */
export interface Connection {
  /** What a request puts into `reply_to`. */
  readonly replyTo: string;
  /** Whether it takes messages just now. */
  readonly ready: boolean;
  /** Why the broker takes none, such as low memory; absent when it does. */
  readonly blocked: string | undefined;
  /**
   * Publishes a request, mandatory and without a confirm: its answer is its confirm. Only while it is `ready`.
   *
   * @throws {NuropbMessageError} when its headers or body are too large.
   */
  send(message: Message): void;
  /**
   * Publishes and waits for the broker's confirm.
   *
   * @param source Aborts when nobody waits for it any more, so that it is not sent a second time.
   * @throws {NuropbNotDeliveredError} when `mandatory` and no queue takes it.
   * @throws {PublishRefused} when the broker refused it.
   * @throws {NuropbTransportError} when the connection was lost before the confirm.
   */
  publish(message: Message, mandatory: boolean, source?: SignalSource): Promise<void>;
  /**
   * Declares on a channel of its own, so that a refusal harms nothing else.
   *
   * @throws {NuropbTransportError} with the broker's reason.
   */
  declare(declarations: readonly Declaration[]): Promise<void>;
  /**
   * Declares and starts to consume, on a channel of its own. Resolves when the broker has confirmed the consumer.
   *
   * @throws {NuropbTransportError} with the broker's reason.
   */
  consume(options: ConsumeOptions, handlers: ConsumerHandlers): Promise<Consumer>;
  /** Says goodbye to the broker and closes. Never rejects. */
  close(): Promise<void>;
}

/** Opens a connection. Aborting the signal gives up and rejects with its reason. */
export type OpenConnection = (handlers: ConnectionHandlers, signal: AbortSignal) => Promise<Connection>;
