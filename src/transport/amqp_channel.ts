/**
 * A channel that tells its owner of everything: deliveries, returns, confirms and its own end. It publishes by
 * itself, since the client's own way keeps a buffer of a whole frame for every unconfirmed message.
 *
 * @module
 */
import { AMQPChannel } from "@cloudamqp/amqp-client/amqp-channel";
import { NuropbNotDeliveredError, NuropbTransportError } from "../errors.ts";
import type { Message } from "../message.ts";
import type { AmqpSocket } from "./amqp_socket.ts";
import { Confirms } from "./confirms.ts";
import type { Confirm } from "./confirms.ts";
import type { Received } from "./content_reader.ts";
import type { Declaration } from "./topology.ts";
import { PublishRefused } from "./transport.ts";

/** A channel of an {@linkcode AmqpSocket}. */
export class MeshChannel extends AMQPChannel {
  /** Called with each message for this channel's consumer. */
  ondelivery: (message: Received) => void = () => {};
  /** Called with each unroutable message that was not published with a confirm. */
  onreturned: (message: Received) => void = () => {};
  /** Called once if the broker closes the channel, or the connection goes. */
  onclosed: (error: NuropbTransportError) => void = () => {};

  /** Until when answers to what it sent may be waited for, in ms since the epoch. */
  busyUntil = 0;

  readonly #socket: AmqpSocket;
  readonly #confirms = new Confirms();
  /** Tags of the deliveries that are not settled yet, the first one first: no more than the prefetch. */
  readonly #unsettled = new Set<number>();
  /** Tags of those that the broker is to be told of. */
  #acked: number[] = [];

  /** @param socket The connection. @param id The channel's number. */
  constructor(socket: AmqpSocket, id: number) {
    super(socket, id);
    this.#socket = socket;
    // The end is told by `onclosed`; the client's own way would also report it as the connection's.
    this.onerror = () => {};
  }

  /** Publishes without waiting for anything. */
  publish(message: Message, mandatory: boolean): void {
    this.#socket.publish(this.id, message, mandatory);
  }

  /**
   * Publishes on a channel in confirm mode, and resolves when the broker has taken the message.
   *
   * @throws {NuropbMessageError} when it is too large, at once.
   */
  confirm(message: Message, mandatory: boolean): Promise<void> {
    if (this.closed) {
      return Promise.reject(new NuropbTransportError("The channel is closed", { code: "CHANNEL_CLOSED" }));
    }
    this.publish(message, mandatory);
    return new Promise((resolve, reject) => {
      const messageId = message.properties.messageId;
      this.#confirms.add({ messageId, resolve, reject, returned: false });
    });
  }

  /** How many messages wait for their confirm. */
  get unconfirmed(): number {
    return this.#confirms.size;
  }

  /** The broker took, or refused, one message or all up to it. */
  override publishConfirmed(deliveryTag: number, multiple: boolean, nack: boolean): void {
    if (multiple) {
      for (const confirm of this.#confirms.takeUpTo(deliveryTag)) settle(confirm, nack);
    } else {
      const confirm = this.#confirms.take(deliveryTag);
      if (confirm !== undefined) settle(confirm, nack);
    }
  }

  /** Declares something of the topology. */
  declare(declaration: Declaration): Promise<unknown> {
    switch (declaration.kind) {
      case "exchange":
        return this.exchangeDeclare(declaration.name, declaration.type, { durable: true });
      case "queue": {
        const { name, durable, exclusive, autoDelete } = declaration;
        return this.queueDeclare(name, { durable, exclusive, autoDelete }, declaration.arguments);
      }
      case "binding":
        return this.queueBind(declaration.queue, declaration.exchange, declaration.routingKey);
    }
  }

  /** Says of a delivery that it is going to be acknowledged or refused. */
  hold(deliveryTag: number): void {
    this.#unsettled.add(deliveryTag);
  }

  /**
   * Acknowledges a delivery. Told with the next bytes that leave, after whatever was published before, and several of
   * them at once.
   */
  ack(deliveryTag: number): void {
    this.#unsettled.delete(deliveryTag);
    this.#acked.push(deliveryTag);
    if (this.#acked.length === 1) this.#socket.beforeFlush(this.#sendAcks);
  }

  /** Refuses a delivery. */
  reject(deliveryTag: number, requeue: boolean): void {
    // First, since the acks that wait leave before it, and none of them may stand for this one too.
    this.basicReject(deliveryTag, requeue);
    this.#unsettled.delete(deliveryTag);
  }

  readonly #sendAcks = (): void => {
    const acked = this.#acked;
    this.#acked = [];
    if (this.closed) return;
    const [first = Infinity] = this.#unsettled;
    let joined = 0;
    let last = 0;
    for (const tag of acked) {
      if (tag > first) continue;
      joined++;
      last = Math.max(last, tag);
    }
    // One that is known to the broker must stand for all before it.
    if (joined > 0) this.basicAck(last, joined > 1);
    if (joined === acked.length) return;
    for (const tag of acked) if (tag > first) this.basicAck(tag);
  };

  /** Closes the channel, once the broker was told of what is done. */
  override close(...reason: Parameters<AMQPChannel["close"]>): Promise<void> {
    this.#sendAcks();
    return super.close(...reason);
  }

  /** Closes the channel; what waits for its confirm counts as refused. */
  abandon(): void {
    for (const confirm of this.#confirms.takeAll()) settle(confirm, true);
    if (!this.closed) this.close().catch(() => {});
  }

  /** A message came in. */
  receive(message: Received): void {
    if (!message.isReturned) this.ondelivery(message);
    else if (!this.#isConfirmed(message)) this.onreturned(message);
  }

  /** Whether a message that came back is one whose confirm tells that. */
  #isConfirmed({ properties: { messageId } }: Message): boolean {
    const confirm = messageId === undefined ? undefined : this.#confirms.unreturned(messageId);
    if (confirm === undefined) return false;
    confirm.returned = true;
    return true;
  }

  /** The channel ended: by us without an error, else with one. */
  override setClosed(error?: Error): void {
    const wasOpen = !this.closed;
    super.setClosed(error);
    const reason = error && transportError(error, this.#socket.handshake === "done");
    for (const confirm of this.#confirms.takeAll()) {
      confirm.reject(reason ?? new NuropbTransportError("The channel was closed", { code: "CLOSED" }));
    }
    if (wasOpen && reason !== undefined) this.onclosed(reason);
  }
}

/** Tells a message's sender what the broker did with it. */
function settle(confirm: Confirm, nack: boolean): void {
  if (nack) confirm.reject(new PublishRefused());
  else if (confirm.returned) confirm.reject(new NuropbNotDeliveredError("No queue takes the message"));
  else confirm.resolve();
}

const codesByReplyCode: Readonly<Record<string, NuropbTransportError["code"]>> = {
  "403": "ACCESS_REFUSED",
  "404": "NOT_FOUND",
  "405": "PRECONDITION_FAILED",
  "406": "PRECONDITION_FAILED",
  "530": "ACCESS_REFUSED",
};

/**
 * The error for one of the client's, without it as a cause: it holds the whole connection, password included.
 * A broker's own reason ends in its reply code, as in `… NOT_FOUND - no queue 'x' (404)`.
 *
 * @param isOpen Whether the handshake is done: a broker that then closes the connection refuses nothing that anyone
 *   asked for, whatever its reason.
 */
export function transportError(error: Error, isOpen: boolean): NuropbTransportError {
  if (error instanceof NuropbTransportError) return error;
  if (error.message === "Channel is closed") {
    return new NuropbTransportError("The broker closed the channel", { code: "CHANNEL_CLOSED" });
  }
  const [, channel, text, replyCode] =
    /^(?:channel (\d+)|connection) closed: ([\s\S]*) \((\d+)\)$/.exec(error.message) ?? [];
  if (text === undefined || replyCode === undefined) {
    return new NuropbTransportError(`The connection to the broker failed: ${error.message}`);
  }
  if (channel === undefined && (isOpen || replyCode === "320")) {
    return new NuropbTransportError(`The broker closed the connection: ${text}`);
  }
  const code = /vhost .* not found/.test(text) ? "VHOST_NOT_FOUND" : codesByReplyCode[replyCode];
  return new NuropbTransportError(`The broker refused: ${text}`, { code: code ?? "CHANNEL_CLOSED" });
}
