/**
 * RabbitMQ, and whatever else speaks AMQP 0-9-1, as a {@linkcode Connection}.
 *
 * @module
 */
import type { SignalSource } from "../deadlines.ts";
import { abortable } from "../deferred.ts";
import { NuropbTransportError } from "../errors.ts";
import type { Message } from "../message.ts";
import type { Address } from "../runtime/byte_socket.ts";
import { dial } from "../runtime/dial.ts";
import { CallerChannels } from "./amqp_callers.ts";
import type { MeshChannel } from "./amqp_channel.ts";
import { AmqpConsumer } from "./amqp_consumer.ts";
import { AmqpSocket } from "./amqp_socket.ts";
import type { AmqpSettings } from "./amqp_socket.ts";
import { DEAD_LETTER_QUEUE, meshExchanges } from "./topology.ts";
import type { Declaration } from "./topology.ts";
import { PublishRefused } from "./transport.ts";
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
  /** How to shake hands with this broker: pipelined, until that turns out not to work with it. */
  readonly handshake: { pipelined: boolean };
  /** Whether it is one of several brokers, of which one may go while this one stays. */
  readonly isCluster: boolean;
}

/** A {@linkcode Connection} over one socket. */
export class AmqpConnection implements Connection {
  readonly #socket: AmqpSocket;
  readonly #handlers: ConnectionHandlers;
  readonly #options: AmqpOptions;
  readonly #isCluster: boolean;
  readonly #callers: CallerChannels;
  /** The channel of confirmed messages, opened when the first one is sent. */
  #publisher: Promise<MeshChannel> | undefined;
  /** The channel of those that may have had theirs closed, and the last of them, which the next one waits for. */
  #suspects: MeshChannel | undefined;
  #alone = Promise.resolve();

  constructor(socket: AmqpSocket, options: AmqpOptions, handlers: ConnectionHandlers) {
    this.#socket = socket;
    this.#handlers = handlers;
    this.#options = options;
    this.#isCluster = options.isCluster;
    this.#callers = new CallerChannels(socket, options, handlers);
    socket.onflow = () => handlers.onflow();
  }

  get replyTo(): string {
    return this.#callers.replyTo;
  }

  get ready(): boolean {
    return this.#callers.isOpen && this.#socket.blocked === undefined;
  }

  get blocked(): string | undefined {
    return this.#socket.blocked;
  }

  /** Opens what every connection needs: in one round trip if pipelined, else in one after the handshake. */
  async open(pipelined: boolean, declare: boolean): Promise<void> {
    const connected = this.#socket.connect(pipelined);
    if (!pipelined) await connected;
    const exchanges = declare
      ? this.declare(meshExchanges).catch((error: NuropbTransportError) => {
        // An account without configure permission uses the exchanges that others declared.
        if (error.code !== "ACCESS_REFUSED") throw error;
      })
      : undefined;
    const { channel, opened } = this.#callers.open();
    // The client queues what it sends in microtasks, which are all through at the next turn.
    const turn = pipelined ? setTimeout(() => this.#sendEarly(channel)) : undefined;
    try {
      await Promise.all([connected, exchanges, opened]);
    } finally {
      clearTimeout(turn);
    }
    if (this.#socket.closed) throw new NuropbTransportError("The connection to the broker was lost");
    this.#socket.onend = (error) => this.#handlers.onclose(error);
  }

  /** Lets requests go out behind the methods that open the channel that they leave on. */
  #sendEarly(channel: MeshChannel): void {
    this.#handlers.onpipelined({
      replyTo: this.replyTo,
      send: (message) => this.#callers.sendOn(channel, message),
    });
  }

  send(message: Message): void {
    this.#callers.send(message);
  }

  async publish(message: Message, mandatory: boolean, source?: SignalSource): Promise<void> {
    if (this.#publisher === undefined) {
      const forget = () => {
        if (this.#publisher === opening) this.#publisher = undefined;
      };
      const opening = this.#publisher = this.#openConfirming(forget);
      opening.catch(forget);
    }
    const publisher = this.#publisher;
    const channel = await publisher;
    // Its connection may end in the same breath in which the broker opens it.
    if (this.#socket.closed) throw new NuropbTransportError("The connection to the broker was lost");
    try {
      await channel.confirm(message, mandatory);
    } catch (error) {
      if (error instanceof PublishRefused) {
        if (this.#isCluster && this.#publisher === publisher) {
          this.#publisher = undefined;
          channel.abandon();
        }
      } else if (error instanceof NuropbTransportError && channel.closed && !this.#socket.closed) {
        const alone = this.#alone.then(() => this.#publishAlone(message, mandatory, source));
        this.#alone = alone.catch(() => {});
        return await alone;
      }
      throw error;
    }
  }

  /**
   * Publishes one of the messages without a confirm whose channel the broker closed. It does not tell which of them
   * was to blame: the one that has a channel closed when it is alone on it.
   */
  async #publishAlone(message: Message, mandatory: boolean, source?: SignalSource): Promise<void> {
    const signal = source?.signal;
    signal?.throwIfAborted();
    if (this.#suspects?.closed !== false) this.#suspects = await this.#openConfirming();
    const channel = this.#suspects;
    try {
      await abortable(channel.confirm(message, mandatory), signal);
    } catch (error) {
      // What the broker may still make of it is not to be blamed on the next one.
      channel.abandon();
      throw error;
    }
  }

  async declare(declarations: readonly Declaration[]): Promise<void> {
    const channel = this.#socket.openChannel();
    // All at once: the broker takes them in order, and a refusal closes the channel and so fails the rest.
    await Promise.all(
      declarations.map((declaration) =>
        this.#socket.method(`to declare ${describe(declaration)}`, () => channel.declare(declaration))
      ),
    );
    await this.#socket.method("to close a channel", () => channel.close());
  }

  async consume(options: ConsumeOptions, handlers: ConsumerHandlers): Promise<Consumer> {
    if (options.topology.length > 0) await this.#declareAll(options.topology);
    const channel = this.#socket.openChannel();
    const consumer = new AmqpConsumer(
      this.#socket,
      channel,
      handlers,
      this.#isCluster ? this.#isCaller : undefined,
    );
    await consumer.open(options);
    return consumer;
  }

  /** Asks on a connection of its own, since the broker may close it in place of an answer. */
  readonly #isCaller = async (queue: string): Promise<boolean> => {
    const options = this.#options;
    let socket: AmqpSocket | undefined;
    try {
      const late = AbortSignal.timeout(options.methodTimeout);
      socket = new AmqpSocket(await dial(options.address, late), options);
      await socket.connect();
      const channel = socket.openChannel();
      await socket.method(`to find ${queue}`, () => channel.queueDeclare(queue, { passive: true }));
      return true;
    } catch (error) {
      // RESOURCE_LOCKED: it is there, and another connection's own.
      return error instanceof NuropbTransportError && error.code === "PRECONDITION_FAILED";
    } finally {
      socket?.end();
    }
  };

  /** Declares; what is on a node of the cluster that is away, and can be done without, is left out. */
  async #declareAll(topology: readonly Declaration[]): Promise<void> {
    try {
      await this.declare(topology);
    } catch (error) {
      const isAway = error instanceof NuropbTransportError &&
        /home node .* down or inaccessible/.test(error.message);
      const needed = topology.filter((declaration) => !isDeadLetters(declaration));
      if (!isAway || needed.length === topology.length) throw error;
      await this.declare(needed);
    }
  }

  async close(): Promise<void> {
    await this.#socket.shutdown();
  }

  async #openConfirming(onclosed = () => {}): Promise<MeshChannel> {
    const channel = this.#socket.openChannel();
    channel.onclosed = onclosed;
    await this.#socket.method("to confirm messages", () => channel.confirmSelect());
    return channel;
  }
}

/** The queue of dead letters is there already, and so is its binding, wherever a service runs beside others. */
function isDeadLetters(declaration: Declaration): boolean {
  const queue = declaration.kind === "queue"
    ? declaration.name
    : declaration.kind === "binding" && declaration.queue;
  return queue === DEAD_LETTER_QUEUE;
}

function describe(declaration: Declaration): string {
  return declaration.kind === "binding"
    ? `that ${declaration.queue} gets ${declaration.routingKey}`
    : `the ${declaration.kind} ${declaration.name}`;
}
