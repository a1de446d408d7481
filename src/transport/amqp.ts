/**
 * RabbitMQ, and whatever else speaks AMQP 0-9-1, as a {@linkcode Connection}.
 *
 * @module
 */
import type { AMQPMessage } from "@cloudamqp/amqp-client/amqp-message";
import { NuropbTransportError } from "../errors.ts";
import type { Message } from "../message.ts";
import type { Address } from "../runtime/byte_socket.ts";
import { dial } from "../runtime/dial.ts";
import type { MeshChannel } from "./amqp_channel.ts";
import { AmqpSocket } from "./amqp_socket.ts";
import type { AmqpSettings } from "./amqp_socket.ts";
import { DIRECT_REPLY_TO, meshExchanges, privateQueue } from "./topology.ts";
import type { Declaration } from "./topology.ts";
import type {
  Connection,
  ConnectionHandlers,
  ConsumeOptions,
  Consumer,
  ConsumerHandlers,
  Delivery,
} from "./transport.ts";

/** Where and how to connect. */
export interface AmqpOptions extends AmqpSettings {
  readonly address: Address;
  /** The exclusive queue for answers; absent for direct reply-to. */
  readonly replyQueue?: string;
  /** Whether to make sure of the mesh's exchanges. */
  readonly declare: boolean;
}

/**
 * Opens a connection to a broker.
 *
 * @throws {NuropbTransportError} when it cannot be reached or refuses. Rejects with the signal's reason on abort.
 */
export async function openAmqp(
  options: AmqpOptions,
  handlers: ConnectionHandlers,
  signal: AbortSignal,
): Promise<Connection> {
  const { host, port } = options.address;
  const byteSocket = await dial(options.address, signal).catch((cause: unknown) => {
    signal.throwIfAborted();
    throw new NuropbTransportError(`No broker can be reached at ${host}:${port}: ${text(cause)}`, {
      code: "CONNECT_FAILED",
      cause,
    });
  });
  const socket = new AmqpSocket(byteSocket, options);
  const abort = () => socket.end();
  signal.addEventListener("abort", abort);
  try {
    await socket.connect();
    const connection = new AmqpConnection(socket, options, handlers);
    await connection.open(options.declare);
    return connection;
  } catch (error) {
    signal.throwIfAborted();
    socket.end();
    throw error;
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

class AmqpConnection implements Connection {
  readonly replyTo: string;
  readonly #socket: AmqpSocket;
  readonly #handlers: ConnectionHandlers;
  readonly #replyQueue: string | undefined;
  /** The channel that requests leave on and answers come in on; absent while it is opened anew. */
  #caller: MeshChannel | undefined;
  /** Requests that wait for that channel. */
  readonly #waiting: Message[] = [];
  /** The channel of confirmed messages, opened when the first one is sent. */
  #publisher: Promise<MeshChannel> | undefined;

  constructor(socket: AmqpSocket, options: AmqpOptions, handlers: ConnectionHandlers) {
    this.#socket = socket;
    this.#handlers = handlers;
    this.#replyQueue = options.replyQueue;
    this.replyTo = options.replyQueue ?? DIRECT_REPLY_TO;
  }

  /** Opens what every connection needs, in one round trip each way. */
  async open(declare: boolean): Promise<void> {
    const exchanges = declare
      ? this.declare(meshExchanges).catch((error: NuropbTransportError) => {
        // An account without configure permission uses the exchanges that others declared.
        if (error.code !== "ACCESS_REFUSED") throw error;
      })
      : undefined;
    await Promise.all([exchanges, this.#openCaller()]);
    if (this.#socket.closed) throw new NuropbTransportError("The connection to the broker was lost");
    this.#socket.onend = (error) => this.#handlers.onclose(error);
  }

  send(message: Message): void {
    this.#socket.checkSize(message);
    if (this.#caller === undefined) this.#waiting.push(message);
    else this.#caller.publish(message, true);
  }

  async publish(message: Message, mandatory: boolean): Promise<void> {
    this.#publisher ??= this.#openPublisher();
    const channel = await this.#publisher;
    await channel.confirm(message, mandatory);
  }

  async declare(declarations: readonly Declaration[]): Promise<void> {
    const channel = await this.#socket.openChannel();
    // All at once: the broker takes them in order, and a refusal closes the channel and so fails the rest.
    await Promise.all(
      declarations.map((declaration) =>
        this.#socket.method(`to declare ${describe(declaration)}`, () => declareOn(channel, declaration))
      ),
    );
    await this.#socket.method("to close a channel", () => channel.close());
  }

  async consume(options: ConsumeOptions, handlers: ConsumerHandlers): Promise<Consumer> {
    if (options.topology.length > 0) await this.declare(options.topology);
    const channel = await this.#socket.openChannel();
    const consumer = new AmqpConsumer(this.#socket, channel, handlers);
    await consumer.open(options);
    return consumer;
  }

  async close(): Promise<void> {
    await this.#socket.shutdown();
  }

  async #openCaller(): Promise<void> {
    const channel = await this.#socket.openChannel();
    channel.ondelivery = (message) => this.#handlers.onreply(toMessage(message, channel));
    channel.onreturned = (message) => this.#handlers.onreturn(toMessage(message, channel));
    channel.onclosed = (error) => {
      if (this.#socket.closed) return;
      this.#caller = undefined;
      this.#handlers.onreset(error);
      this.#openCaller().catch((reason: NuropbTransportError) => this.#socket.end(reason));
    };
    if (this.#replyQueue !== undefined) {
      const queue = privateQueue(this.#replyQueue);
      await this.#socket.method("to declare the queue for answers", () => declareOn(channel, queue));
    }
    await this.#socket.method(
      "to take answers",
      () =>
        channel.basicConsume(
          this.replyTo,
          { noAck: true, exclusive: this.#replyQueue !== undefined },
          () => {},
        ),
    );
    this.#caller = channel;
    for (const message of this.#waiting.splice(0)) channel.publish(message, true);
  }

  async #openPublisher(): Promise<MeshChannel> {
    try {
      const channel = await this.#socket.openChannel();
      channel.onclosed = () => this.#publisher = undefined;
      await this.#socket.method("to confirm messages", () => channel.confirmSelect());
      return channel;
    } catch (error) {
      this.#publisher = undefined;
      throw error;
    }
  }
}

const CONSUMER_TAG = "nuropb";

class AmqpConsumer implements Consumer {
  readonly #socket: AmqpSocket;
  readonly #channel: MeshChannel;
  readonly #handlers: ConsumerHandlers;
  #ended = false;

  constructor(socket: AmqpSocket, channel: MeshChannel, handlers: ConsumerHandlers) {
    this.#socket = socket;
    this.#channel = channel;
    this.#handlers = handlers;
  }

  async open({ queue, prefetch }: ConsumeOptions): Promise<void> {
    const channel = this.#channel;
    channel.ondelivery = (message) => this.#handlers.ondelivery(new AmqpDelivery(channel, message));
    await this.#socket.method("to set the prefetch", () => channel.basicQos(prefetch));
    const consumer = await this.#socket.method(
      `to consume ${queue}`,
      () => channel.basicConsume(queue, { tag: CONSUMER_TAG, noAck: false }, () => {}),
    );
    channel.onclosed = (error) => this.#end(error);
    // The client tells of a cancelled consumer nowhere else.
    consumer.wait().catch(() =>
      this.#end(
        new NuropbTransportError(`The broker cancelled the consumer of ${queue}: was the queue deleted?`, {
          code: "NOT_FOUND",
        }),
      )
    );
  }

  async cancel(): Promise<void> {
    if (this.#ended || this.#channel.closed) return;
    this.#ended = true;
    await this.#socket.method("to cancel a consumer", () => this.#channel.basicCancel(CONSUMER_TAG));
  }

  async close(): Promise<void> {
    this.#ended = true;
    if (this.#channel.closed) return;
    await this.#socket.method("to close a channel", () => this.#channel.close());
  }

  #end(error: NuropbTransportError): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#handlers.onend(error);
    if (!this.#channel.closed) this.#channel.close().catch(() => {});
  }
}

/** Settling after the channel has gone is nothing: the broker has the message again. */
class AmqpDelivery implements Delivery {
  readonly exchange: string;
  readonly routingKey: string;
  readonly properties: Message["properties"];
  readonly body: Uint8Array;
  readonly oversize: number | undefined;
  readonly redelivered: boolean;
  readonly #channel: MeshChannel;
  readonly #tag: number;
  #settled = false;

  constructor(channel: MeshChannel, message: AMQPMessage) {
    const { exchange, routingKey, properties, body, oversize } = toMessage(message, channel);
    this.exchange = exchange;
    this.routingKey = routingKey;
    this.properties = properties;
    this.body = body;
    this.oversize = oversize;
    this.redelivered = message.redelivered;
    this.#channel = channel;
    this.#tag = message.deliveryTag;
  }

  reply(message: Message): void {
    if (!this.#channel.closed) this.#channel.publish(message, false);
  }

  ack(): void {
    if (this.#settle()) this.#channel.basicAck(this.#tag);
  }

  reject(): void {
    if (this.#settle()) this.#channel.basicReject(this.#tag, false);
  }

  requeue(): void {
    if (this.#settle()) this.#channel.basicReject(this.#tag, true);
  }

  #settle(): boolean {
    const first = !this.#settled;
    this.#settled = true;
    return first && !this.#channel.closed;
  }
}

function declareOn(channel: MeshChannel, declaration: Declaration): Promise<unknown> {
  switch (declaration.kind) {
    case "exchange":
      return channel.exchangeDeclare(declaration.name, declaration.type, { durable: true });
    case "queue": {
      const { name, durable, exclusive, autoDelete } = declaration;
      return channel.queueDeclare(name, { durable, exclusive, autoDelete }, declaration.arguments);
    }
    case "binding":
      return channel.queueBind(declaration.queue, declaration.exchange, declaration.routingKey);
  }
}

function describe(declaration: Declaration): string {
  return declaration.kind === "binding"
    ? `that ${declaration.queue} gets ${declaration.routingKey}`
    : `the ${declaration.kind} ${declaration.name}`;
}

function toMessage({ exchange, routingKey, properties, body }: AMQPMessage, channel: MeshChannel): Message {
  const { contentType, correlationId, replyTo, expiration, messageId, deliveryMode, headers } = properties;
  const { oversize } = channel;
  channel.oversize = undefined;
  return {
    exchange,
    routingKey,
    properties: {
      contentType,
      correlationId,
      replyTo,
      expiration,
      messageId,
      persistent: deliveryMode === 2,
      headers: detach(headers ?? {}) as Record<string, unknown>,
    },
    body: body ?? new Uint8Array(0),
    oversize,
  };
}

/** Copies byte arrays, which the client leaves pointing into the socket's buffer. */
function detach(value: unknown): unknown {
  if (value instanceof Uint8Array) return value.slice();
  if (Array.isArray(value)) return value.map(detach);
  if (typeof value === "object" && value !== null && !(value instanceof Date)) {
    for (const [key, field] of Object.entries(value)) {
      if (typeof field === "object") (value as Record<string, unknown>)[key] = detach(field);
    }
  }
  return value;
}

function text(cause: unknown): string {
  return cause instanceof Error ? cause.message || cause.name : String(cause);
}
