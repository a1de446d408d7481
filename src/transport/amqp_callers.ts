/**
 * The channels that requests leave on and answers come in on: mostly one.
 *
 * @module
 */
import type { NuropbTransportError } from "../errors.ts";
import type { Message } from "../message.ts";
import type { MeshChannel } from "./amqp_channel.ts";
import { consume } from "./amqp_consumer.ts";
import type { AmqpSocket } from "./amqp_socket.ts";
import { isLost } from "./supervised_consumer.ts";
import { DIRECT_REPLY_TO, isDirectReplyTo, privateQueue } from "./topology.ts";
import { PublishRefused } from "./transport.ts";
import type { ConnectionHandlers } from "./transport.ts";

/** How long after a first refusal of requests they are sent again, and after many, in ms. */
const FIRST_DELAY = 200;
const LONGEST_DELAY = 1_000;
/** How many channels may wait for answers beside the one that requests leave on. */
const MAX_FORMER = 16;

/** What they are to be like. */
interface CallerOptions {
  /** The exclusive queue for answers; absent for direct reply-to. */
  readonly replyQueue?: string;
  /** Whether requests are confirmed, since a node of the cluster may go. */
  readonly isCluster: boolean;
}

/** The channels of a connection for its requests. */
export class CallerChannels {
  readonly #socket: AmqpSocket;
  readonly #options: CallerOptions;
  /** What answers are consumed from. */
  readonly #queue: string;
  /** What requests on the current channel put into `reply_to`. */
  #replyTo: string;
  readonly #handlers: ConnectionHandlers;
  /** The channel that requests leave on and answers come in on; absent while it is opened anew. */
  #current: MeshChannel | undefined;
  /** That one, and those before it that answers may still come in on. */
  readonly #all = new Set<MeshChannel>();
  #isRenewing = false;
  #delay = 0;
  #renewedAt = 0;

  constructor(socket: AmqpSocket, options: CallerOptions, handlers: ConnectionHandlers) {
    this.#socket = socket;
    this.#options = options;
    this.#queue = this.#replyTo = options.replyQueue ?? DIRECT_REPLY_TO;
    this.#handlers = handlers;
  }

  /** What a request puts into `reply_to`. */
  get replyTo(): string {
    return this.#replyTo;
  }

  /** Whether requests can be sent just now. */
  get isOpen(): boolean {
    return this.#current !== undefined;
  }

  /** Sends a request. */
  send(message: Message): void {
    if (this.#current !== undefined) this.sendOn(this.#current, message);
  }

  /** Sends a request on a channel that may not be open yet. */
  sendOn(channel: MeshChannel, message: Message): void {
    this.#socket.checkSize(message);
    if (!this.#options.isCluster) return channel.publish(message, true);
    const end = Date.now() + Number(message.properties.expiration);
    channel.confirm(message, true).then(
      () => channel.busyUntil = Math.max(channel.busyUntil, end),
      (error) => {
        if (error instanceof PublishRefused) this.#refused(message);
      },
    );
  }

  /**
   * A channel that has sent to a queue while it was between two nodes is refused for ever, so requests go on over a
   * new one, after a pause in which the queue may find its node. A full queue refuses them there, too: the pause
   * grows, and nothing else is held up meanwhile.
   */
  #refused(message: Message): void {
    this.#handlers.onrefused(message);
    if (this.#isRenewing) return;
    this.#isRenewing = true;
    const isFirst = Date.now() - this.#renewedAt > LONGEST_DELAY;
    this.#delay = isFirst ? FIRST_DELAY : Math.min(LONGEST_DELAY, 2 * this.#delay);
    setTimeout(() => this.#renew(), this.#delay);
  }

  /** Has requests leave on a new channel. Answers come in on the one that their requests left on, which stays for them. */
  async #renew(): Promise<void> {
    for (const channel of this.#all) {
      const isBusy = channel.unconfirmed > 0 || channel.busyUntil > Date.now();
      if (channel === this.#current || isBusy) continue;
      this.#all.delete(channel);
      channel.close().catch(() => {});
    }
    try {
      if (this.#current !== undefined && this.#all.size <= MAX_FORMER) await this.open().opened;
    } catch {
      // The one before is there still.
    }
    this.#isRenewing = false;
    this.#renewedAt = Date.now();
    this.#handlers.onflow();
  }

  /**
   * Opens another one.
   *
   * @param isSecond Whether the channel before this one ended as soon as it was open.
   */
  open(isSecond = false): { channel: MeshChannel; opened: Promise<void> } {
    const socket = this.#socket;
    const channel = socket.openChannel();
    channel.ondelivery = (message) => {
      if (channel === this.#current) this.#learnReplyTo(message.routingKey);
      this.#handlers.onreply(message);
    };
    channel.onreturned = (message) => this.#handlers.onreturn(message);
    let isOpen = false;
    let early: NuropbTransportError | undefined;
    const lose = (error: NuropbTransportError) => {
      // The client closes the channels of a connection before the connection.
      if (socket.closed || isLost(error)) return;
      // It may end in the same breath in which the broker confirms it.
      if (!isOpen) {
        early = error;
        return;
      }
      isOpen = false;
      this.#current = undefined;
      this.#handlers.onflow();
      this.#handlers.onreset(error, true);
      for (const caller of this.#all) if (!caller.closed) caller.close().catch(() => {});
      this.#all.clear();
      const next = this.open(early !== undefined);
      next.opened.catch((reason: NuropbTransportError) => socket.end(reason));
    };
    channel.onclosed = lose;
    const confirmed = this.#options.isCluster
      ? socket.method("to confirm requests", () => channel.confirmSelect())
      : undefined;
    const queue = this.#options.replyQueue;
    let declared: Promise<unknown> | undefined;
    let consumed: Promise<void> | undefined;
    // A queue goes on to be read by the channel that did so before.
    if (queue === undefined || this.#current === undefined) {
      if (queue !== undefined) {
        channel.busyUntil = Infinity;
        declared = socket.method(
          "to declare the queue for answers",
          () => channel.declare(privateQueue(queue)),
        );
      }
      consumed = consume(
        socket,
        channel,
        this.#queue,
        { noAck: true, exclusive: queue !== undefined },
        lose,
      );
    }
    const opened = Promise.all([confirmed, declared, consumed]).then(() => {
      isOpen = true;
      this.#all.add(channel);
      if (early !== undefined) {
        // Once may be chance; over and over it would be a loop without a pause, which a new connection has.
        if (isSecond) return socket.end(early);
        return lose(early);
      }
      this.#current = channel;
      this.#replyTo = this.#queue;
      this.#handlers.onflow();
    });
    return { channel, opened };
  }

  /**
   * An answer tells the address that the broker makes of direct reply-to for its channel. A request that has it
   * already passes through as it is, where the broker would write all of its properties anew.
   */
  #learnReplyTo(address: string): void {
    if (this.#replyTo === DIRECT_REPLY_TO && isDirectReplyTo(address)) this.#replyTo = address;
  }
}
