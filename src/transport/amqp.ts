/**
 * RabbitMQ, and whatever else speaks AMQP 0-9-1, as a {@linkcode Connection}.
 *
 * @module
 */
import { NuropbTransportError } from "../errors.ts";
import type { Message } from "../message.ts";
import type { Address } from "../runtime/byte_socket.ts";
import { dial } from "../runtime/dial.ts";
import type { MeshChannel } from "./amqp_channel.ts";
import { AmqpConsumer, consume, toMessage } from "./amqp_consumer.ts";
import { AmqpSocket } from "./amqp_socket.ts";
import type { AmqpSettings } from "./amqp_socket.ts";
import { DIRECT_REPLY_TO, meshExchanges, privateQueue } from "./topology.ts";
import type { Declaration } from "./topology.ts";
import { isLost } from "./supervised_consumer.ts";
import type {
  Connection,
  ConnectionHandlers,
  ConsumeOptions,
  Consumer,
  ConsumerHandlers,
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
    // Whatever went wrong on the way, there was no connection yet that could be lost.
    if (!isLost(error)) throw error;
    throw new NuropbTransportError(`No connection could be opened to ${host}:${port}: ${text(error)}`, {
      code: "CONNECT_FAILED",
      cause: error,
    });
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

  /** @param isSecond Whether the channel before this one ended as soon as it was open. */
  async #openCaller(isSecond = false): Promise<void> {
    const socket = this.#socket;
    const channel = await socket.openChannel();
    channel.ondelivery = (message) => this.#handlers.onreply(toMessage(message, channel));
    channel.onreturned = (message) => this.#handlers.onreturn(toMessage(message, channel));
    let isOpen = false;
    let early: NuropbTransportError | undefined;
    const lose = (error: NuropbTransportError) => {
      if (socket.closed) return;
      // It may end in the same breath in which the broker confirms it.
      if (!isOpen) {
        early = error;
        return;
      }
      isOpen = false;
      this.#caller = undefined;
      this.#handlers.onreset(error);
      if (!channel.closed) channel.close().catch(() => {});
      this.#openCaller(early !== undefined).catch((reason: NuropbTransportError) => socket.end(reason));
    };
    channel.onclosed = lose;
    if (this.#replyQueue !== undefined) {
      const queue = privateQueue(this.#replyQueue);
      await socket.method("to declare the queue for answers", () => declareOn(channel, queue));
    }
    await consume(
      socket,
      channel,
      this.replyTo,
      { noAck: true, exclusive: this.#replyQueue !== undefined },
      lose,
    );
    isOpen = true;
    if (early !== undefined) {
      // Once may be chance; over and over it would be a loop without a pause, which a new connection has.
      if (isSecond) return socket.end(early);
      return lose(early);
    }
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

function text(cause: unknown): string {
  return cause instanceof Error ? cause.message || cause.name : String(cause);
}
