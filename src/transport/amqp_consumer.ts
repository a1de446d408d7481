/**
 * Consuming over AMQP: deliveries as the mesh knows them.
 *
 * @module
 */
import { AMQPConsumer } from "@cloudamqp/amqp-client/amqp-consumer";
import { NuropbTransportError } from "../errors.ts";
import type { Message } from "../message.ts";
import type { MeshChannel } from "./amqp_channel.ts";
import type { AmqpSocket } from "./amqp_socket.ts";
import type { Received } from "./content_reader.ts";
import type { ConsumeOptions, Consumer, ConsumerHandlers, Delivery } from "./transport.ts";

const CONSUMER_TAG = "nuropb";

/** Whether the caller is still there that answers by this queue are for. Never rejects. */
export type IsCaller = (queue: string) => Promise<boolean>;

/** A consumer on a channel of its own. */
export class AmqpConsumer implements Consumer {
  readonly #socket: AmqpSocket;
  readonly #channel: MeshChannel;
  readonly #handlers: ConsumerHandlers;
  readonly #isCaller: IsCaller | undefined;
  /** Answers that wait to be told whether their caller is still there. */
  readonly #late = new Set<Promise<void>>();
  #open = false;
  #ended = false;
  /** Why it ended before it was open. */
  #early: NuropbTransportError | undefined;

  constructor(socket: AmqpSocket, channel: MeshChannel, handlers: ConsumerHandlers, isCaller?: IsCaller) {
    this.#socket = socket;
    this.#channel = channel;
    this.#handlers = handlers;
    this.#isCaller = isCaller;
  }

  async open({ queue, prefetch }: ConsumeOptions): Promise<void> {
    const channel = this.#channel;
    const answerLate = this.#isCaller === undefined ? undefined : this.#answerLate;
    channel.ondelivery = (message) =>
      this.#handlers.ondelivery(new AmqpDelivery(channel, message, answerLate));
    channel.onclosed = (error) => this.#end(error);
    const limited = this.#socket.method("to set the prefetch", () => channel.basicQos(prefetch));
    const consumed = consume(this.#socket, channel, queue, { noAck: false }, (error) => this.#end(error));
    await Promise.all([limited, consumed]);
    this.#open = true;
    // It may have ended in the same breath.
    if (this.#early !== undefined) this.#end(this.#early);
  }

  async cancel(): Promise<void> {
    if (this.#ended || this.#channel.closed) return;
    this.#ended = true;
    await this.#socket.leave("to cancel a consumer", () => this.#channel.basicCancel(CONSUMER_TAG));
  }

  async close(): Promise<void> {
    this.#ended = true;
    await Promise.all(this.#late);
    if (this.#channel.closed) return;
    await this.#socket.leave("to close a channel", () => this.#channel.close());
  }

  /**
   * Answers a request that comes a second time, if its caller is still there: RabbitMQ 3 closes the connection over
   * an answer to a caller whose node has gone, and would deliver the request again, and so on.
   */
  readonly #answerLate = (answer: Message): Promise<void> => {
    const answering = this.#isCaller!(answer.routingKey).then((isThere) => {
      if (isThere && !this.#channel.closed) this.#channel.publish(answer, false);
    });
    this.#late.add(answering);
    return answering.finally(() => this.#late.delete(answering));
  };

  #end(error: NuropbTransportError): void {
    if (this.#ended) return;
    if (!this.#open) {
      this.#early = error;
      return;
    }
    this.#ended = true;
    this.#handlers.onend(error);
    if (!this.#channel.closed) this.#channel.close().catch(() => {});
  }
}

/**
 * Starts to consume. The client tells of a consumer that the broker cancelled by `wait` alone, and of one that was
 * cancelled before it had heard of its start by nothing: so that one is made here first.
 */
export async function consume(
  socket: AmqpSocket,
  channel: MeshChannel,
  queue: string,
  options: { noAck: boolean; exclusive?: boolean },
  oncancel: (error: NuropbTransportError) => void,
): Promise<void> {
  const cancelled = () =>
    oncancel(
      new NuropbTransportError(`The broker cancelled the consumer of ${queue}: was the queue deleted?`, {
        code: "NOT_FOUND",
      }),
    );
  const early = new AMQPConsumer(channel, CONSUMER_TAG, () => {});
  channel.consumers.set(CONSUMER_TAG, early);
  early.wait().catch(cancelled);
  const consumer = await socket.method(
    `to consume ${queue}`,
    () => channel.basicConsume(queue, { ...options, tag: CONSUMER_TAG }, () => {}),
  );
  consumer.wait().catch(cancelled);
}

/** Settling after the channel has gone is nothing: the broker has the message again. */
class AmqpDelivery implements Delivery {
  readonly exchange: string;
  readonly routingKey: string;
  readonly properties: Message["properties"];
  readonly body: Message["body"];
  readonly oversize: number | undefined;
  readonly redelivered: boolean;
  readonly #channel: MeshChannel;
  readonly #tag: number;
  readonly #answerLate: ((answer: Message) => Promise<void>) | undefined;
  #answering: Promise<void> | undefined;
  #settled = false;

  constructor(
    channel: MeshChannel,
    message: Received,
    answerLate: ((answer: Message) => Promise<void>) | undefined,
  ) {
    const { exchange, routingKey, properties, body, oversize } = message;
    this.exchange = exchange;
    this.routingKey = routingKey;
    this.properties = properties;
    this.body = body;
    this.oversize = oversize;
    this.redelivered = message.redelivered;
    this.#channel = channel;
    this.#tag = message.deliveryTag;
    channel.hold(this.#tag);
    this.#answerLate = answerLate;
  }

  get settled(): boolean {
    return this.#settled || this.#channel.closed;
  }

  reply(message: Message): void {
    if (this.#channel.closed) return;
    if (this.redelivered && this.#answerLate !== undefined) this.#answering = this.#answerLate(message);
    else this.#channel.publish(message, false);
  }

  ack(): void {
    this.#settle("ack");
  }

  reject(): void {
    this.#settle("reject");
  }

  requeue(): void {
    this.#settle("requeue");
  }

  #settle(how: "ack" | "reject" | "requeue"): void {
    if (this.#settled) return;
    this.#settled = true;
    if (this.#answering === undefined) this.#tell(how);
    else this.#answering.then(() => this.#tell(how));
  }

  #tell(how: "ack" | "reject" | "requeue"): void {
    if (this.#channel.closed) return;
    if (how === "ack") this.#channel.ack(this.#tag);
    else this.#channel.reject(this.#tag, how === "requeue");
  }
}
