/**
 * The AMQP client over any byte socket: framing, joined writes, heartbeats and timeouts, written once.
 *
 * @module
 */
import { AMQPBaseClient } from "@cloudamqp/amqp-client/amqp-base-client";
import { AMQPView } from "@cloudamqp/amqp-client/amqp-view";
import { NuropbTransportError, reasonOf } from "../errors.ts";
import { checkSize } from "../message.ts";
import type { Message } from "../message.ts";
import type { ByteSocket } from "../runtime/byte_socket.ts";
import { MeshChannel, transportError } from "./amqp_channel.ts";
import { open, startOk, tuneOk } from "./amqp_handshake.ts";
import { ContentReader } from "./content_reader.ts";
import { ContentWriter } from "./content_writer.ts";
import { FrameReader } from "./frame_reader.ts";
import { WriteBuffer } from "./write_buffer.ts";

/** What the connection is to be like. */
export interface AmqpSettings {
  readonly vhost: string;
  readonly username: string;
  readonly password: string;
  /** By which the account proves itself: by its password, or by the client's certificate. */
  readonly mechanism: "PLAIN" | "EXTERNAL";
  /** Shown by the broker's management pages. */
  readonly name: string;
  /** In ms. */
  readonly heartbeat: number;
  /** How long the broker may take to answer an AMQP method, in ms. */
  readonly methodTimeout: number;
  /** The largest body that may come in or go out, in bytes. */
  readonly maxMessageSize: number;
}

/** RabbitMQ's own limits: what is no larger can be asked for before the broker has told its own. */
const FRAME_MAX = 131_072;
const CHANNEL_MAX = 2_047;
/** What AMQP 0-9-1 has every peer take. */
const SMALLEST_FRAME_MAX = 4_096;
const PROTOCOL_HEADER = new Uint8Array([65, 77, 81, 80, 0, 0, 9, 1]);
const HEARTBEAT_FRAME = new Uint8Array([8, 0, 0, 0, 0, 0, 0, 0xce]);
const CONNECTION_CLASS = 10;
const START_OK = 11;
const TUNE_OK = 31;
const OPEN = 40;
/** How long a broker that reads nothing may take to let a consumer or channel go, in ms. */
const LEAVE_TIMEOUT = 1_000;
/** How long the broker may take to say goodbye, in ms. */
const CLOSE_TIMEOUT = 2_000;

/** One AMQP connection. It lives once. */
export class AmqpSocket extends AMQPBaseClient {
  /** Called once when the connection is gone, with the reason unless it was closed from here. */
  onend: (error?: NuropbTransportError) => void = () => {};
  /** Called when the broker stops to take messages, or takes them again: see `blocked`. */
  onflow: () => void = () => {};

  readonly #socket: ByteSocket;
  readonly #settings: AmqpSettings;
  #isPipelined = false;
  #handshake: "running" | "done" | "refused" = "running";
  /** Whether the broker's limits are lower than those that a pipelined handshake asked for. */
  #askedTooMuch = false;
  readonly #maxMessageSize: number;
  readonly #methodTimeout: number;
  readonly #output: WriteBuffer;
  readonly #input: FrameReader;
  readonly #writer: ContentWriter;
  #ended: { readonly error: NuropbTransportError } | undefined;
  #goodbye: Promise<void> | undefined;
  #heartbeatTimer: ReturnType<typeof setInterval> | undefined;
  #received = true;
  #silentTicks = 0;
  #sent = true;

  /** @param socket An open socket, owned from now on. @param settings Who connects, and how. */
  constructor(socket: ByteSocket, settings: AmqpSettings) {
    const { vhost, username, password, name, heartbeat, maxMessageSize } = settings;
    super(vhost, username, password, name, "web", FRAME_MAX, Math.ceil(heartbeat / 1000), CHANNEL_MAX);
    keepPositive(this, "frameMax");
    keepPositive(this, "heartbeat");
    keepPositive(this, "channelMax");
    this.onerror = () => {};
    this.onblocked = () => this.onflow();
    this.onunblocked = () => this.onflow();
    this.#settings = settings;
    this.ondisconnect = (error) => {
      const isOpen = this.#handshake === "done";
      if (!isOpen) this.#handshake = "refused";
      // The answer to the broker's goodbye must leave before the socket closes.
      this.#output.flush();
      this.end(transportError(error ?? new Error("closed by the broker"), isOpen));
    };
    this.#socket = socket;
    this.#maxMessageSize = maxMessageSize;
    this.#methodTimeout = settings.methodTimeout;
    this.#output = new WriteBuffer((bytes) => {
      this.#sent = true;
      socket.write(bytes);
    });
    this.#writer = new ContentWriter(this.#output);
    const content = new ContentReader({
      onmessage: (channel, message) => {
        const owner = this.channels[channel];
        if (owner instanceof MeshChannel) owner.receive(message);
      },
      onmethods: (frames) =>
        this.parseFrames(new AMQPView(frames.buffer, frames.byteOffset, frames.byteLength)),
    });
    this.#input = new FrameReader(FRAME_MAX, maxMessageSize, {
      onframes: (frames) => content.read(frames),
      onoversize: (channel, bodySize) => content.drop(channel, bodySize),
    });
    socket.ondata = (bytes) => this.#receive(bytes);
    socket.onclose = (error) =>
      this.end(
        new NuropbTransportError("The connection to the broker was lost", error ? { cause: error } : {}),
      );
  }

  /**
   * Shakes hands with the broker.
   *
   * @param pipelined Whether to answer the broker's questions before they come, so that it takes one round trip and
   *   channels can be opened at once. A broker whose limits are lower than ours closes the connection then.
   */
  override async connect(pipelined = false): Promise<this> {
    await this.method("the handshake", () =>
      new Promise<void>((resolve, reject) => {
        const done = () => {
          this.#handshake = "done";
          resolve();
        };
        this.connectPromise = [done, reject];
        this.#output.append(PROTOCOL_HEADER);
        if (!pipelined) return;
        this.#isPipelined = true;
        this.#output.append(startOk(this.#settings));
        this.#output.append(tuneOk(CHANNEL_MAX, FRAME_MAX, this.heartbeat));
        this.#output.append(open(this.vhost));
      }));
    if (this.frameMax < SMALLEST_FRAME_MAX) {
      throw new NuropbTransportError(
        `The broker allows frames of ${this.frameMax} bytes, fewer than AMQP asks for`,
        {
          code: "CONNECT_FAILED",
        },
      );
    }
    if (this.heartbeat > 0) {
      // Two ticks a beat: a broker that is there sends something every half beat.
      this.#heartbeatTimer = setInterval(() => this.#beat(), this.heartbeat * 500);
    }
    return this;
  }

  /** How far the handshake came; `refused` once the broker has closed the connection in place of opening it. */
  get handshake(): "running" | "done" | "refused" {
    return this.#handshake;
  }

  /** Whether the pipelined handshake asked for more than the broker allows. */
  get askedTooMuch(): boolean {
    return this.#askedTooMuch;
  }

  /** Opens a channel, which can be used at once: the broker takes its methods in order. */
  openChannel(): MeshChannel {
    const free = this.channels.findIndex((channel) => channel === undefined);
    const id = free === -1 ? this.channels.length : free;
    if (this.channelMax > 0 && id > this.channelMax) {
      throw new NuropbTransportError(
        `The broker allows ${this.channelMax} channels a connection: use another one`,
        { code: "CHANNEL_CLOSED" },
      );
    }
    const channel = new MeshChannel(this, id);
    this.channels[id] = channel;
    // What it is used for fails with it.
    this.method("to open a channel", () => channel.open()).catch(() => {});
    return channel;
  }

  /** Runs an AMQP method that the broker answers. Rejects when it does not in time, and ends the connection then. */
  method<Result>(what: string, run: () => Promise<Result>): Promise<Result> {
    if (this.#ended !== undefined) return Promise.reject(this.#ended.error);
    return new Promise((resolve, reject) => {
      const expire = () => {
        // A broker that is short of memory does not even read; it shows by its heartbeats that it is there.
        if (this.blocked !== undefined) {
          timer = setTimeout(expire, this.#methodTimeout);
          return;
        }
        this.end(
          new NuropbTransportError(`The broker did not answer ${what} within ${this.#methodTimeout} ms`, {
            code: "TIMEOUT",
          }),
        );
      };
      let timer = setTimeout(expire, this.#methodTimeout);
      const fail = (error: Error) => {
        clearTimeout(timer);
        this.#methods.delete(fail);
        reject(transportError(error, this.#handshake === "done"));
      };
      this.#methods.add(fail);
      run().then((result) => {
        clearTimeout(timer);
        this.#methods.delete(fail);
        resolve(result);
      }, fail);
    });
  }

  /** Runs a method at the end of something, whose answer a broker that reads nothing is not waited for. */
  leave(what: string, run: () => Promise<unknown>): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        if (this.blocked !== undefined) resolve();
      }, LEAVE_TIMEOUT);
      this.method(what, run).then(() => resolve(), reject).finally(() => clearTimeout(timer));
    });
  }

  /** Methods under way: the client forgets some of them when the connection goes. */
  readonly #methods = new Set<(error: Error) => void>();

  /** Queues bytes. Never rejects, since the client leaves its rejections unhandled: `end` fails what waits. */
  override send(bytes: Uint8Array): Promise<void> {
    if (this.#ended === undefined && !this.#isAnswered(bytes)) {
      // What was settled goes out before a method that ends its channel.
      this.#output.settle();
      this.#output.append(bytes);
    }
    return sent;
  }

  /** Whether a frame of the client's is its part in the handshake, and is not to go out: ours does, or did. */
  #isAnswered(frame: Uint8Array): boolean {
    const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
    if (frame.byteLength < 12 || view.getUint16(7) !== CONNECTION_CLASS) return false;
    const method = view.getUint16(9);
    if (method === START_OK && !this.#isPipelined) this.#output.append(startOk(this.#settings));
    if (method === START_OK) return true;
    if (!this.#isPipelined) return false;
    // The client has taken the lower of both limits by now. Such a broker closes the connection, but not at once.
    if (method === TUNE_OK && (this.channelMax < CHANNEL_MAX || this.frameMax < FRAME_MAX)) {
      this.#askedTooMuch = true;
      this.end(new NuropbTransportError("The broker's limits are lower than what the handshake asked for"));
    }
    return method === TUNE_OK || method === OPEN;
  }

  /** @throws {NuropbMessageError} when the body is larger than may be sent. */
  checkSize(message: Message): void {
    checkSize(message, this.#maxMessageSize);
  }

  /**
   * Queues a message.
   *
   * @throws {NuropbMessageError} when its body is too large, or its headers do not fit a frame.
   */
  publish(channel: number, message: Message, mandatory: boolean): void {
    if (this.#ended !== undefined) throw this.#ended.error;
    this.checkSize(message);
    this.#writer.write(channel, message, mandatory, this.frameMax);
  }

  /** Has something run before the next bytes leave, which may send what goes with them. */
  beforeFlush(task: () => void): void {
    this.#output.beforeFlush(task);
  }

  /** Says goodbye and closes. Never rejects. */
  shutdown(): Promise<void> {
    return this.#goodbye ??= this.#sayGoodbye();
  }

  async #sayGoodbye(): Promise<void> {
    if (this.#ended !== undefined) return;
    this.#output.settle();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const timeout = new Promise<void>((resolve) => timer = setTimeout(resolve, CLOSE_TIMEOUT));
    await Promise.race([this.close("closed by its owner").catch(() => {}), timeout]);
    clearTimeout(timer);
    this.end();
  }

  /** Ends the connection at once; everything that waits for it fails. */
  end(error?: NuropbTransportError): void {
    if (this.#ended !== undefined) return;
    const reason = error ?? new NuropbTransportError("The connection was closed", { code: "CLOSED" });
    this.#ended = { error: reason };
    this.closed = true;
    clearInterval(this.#heartbeatTimer);
    this.#socket.close();
    this.connectPromise?.[1](reason);
    delete this.connectPromise;
    this.closePromise?.[0]();
    delete this.closePromise;
    for (const channel of this.channels) channel?.setClosed(reason);
    for (const fail of [...this.#methods]) fail(reason);
    this.onend(error);
  }

  protected override closeSocket(): void {
    this.end();
  }

  #receive(bytes: Uint8Array): void {
    if (this.#ended !== undefined) return;
    this.#received = true;
    try {
      this.#input.push(bytes);
    } catch (error) {
      const code = this.#handshake === "running" ? "CONNECT_FAILED" : "CONNECTION_LOST";
      this.end(
        new NuropbTransportError(`The broker sent what is not AMQP 0-9-1: ${reasonOf(error)}`, { code }),
      );
    }
  }

  #beat(): void {
    this.#silentTicks = this.#received ? 0 : this.#silentTicks + 1;
    this.#received = false;
    // What came last may have come just after a tick: with a fourth one it would be more than two beats.
    if (this.#silentTicks >= 3) {
      this.end(
        new NuropbTransportError(`The broker was silent for close to two heartbeats of ${this.heartbeat} s`),
      );
      return;
    }
    if (!this.#sent) this.#output.append(HEARTBEAT_FRAME);
    this.#sent = false;
  }
}

/** A broker that tunes a value to zero has no limit of its own, which to the client would be the limit of zero. */
function keepPositive(client: AMQPBaseClient, name: "frameMax" | "heartbeat" | "channelMax"): void {
  let current = client[name];
  Object.defineProperty(client, name, {
    get: () => current,
    set: (tuned: number) => current = tuned > 0 ? tuned : current,
  });
}

const sent = Promise.resolve();
