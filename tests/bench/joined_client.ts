/**
 * The AMQP client over a bare socket with TCP_NODELAY, whose frames of one turn leave in one write.
 *
 * @module
 */
import { AMQPBaseClient } from "@cloudamqp/amqp-client/amqp-base-client";
import { AMQPView } from "@cloudamqp/amqp-client/amqp-view";
import { openSocket, type Write } from "./bare_socket.ts";

const SLAB_SIZE = 65_536;
const FRAME_MAX = 131_072;
const FRAME_HEADER = 7;
const PROTOCOL_HEADER = new Uint8Array([65, 77, 81, 80, 0, 0, 9, 1]);
const queued = Promise.resolve();

/** Extends the client as little as that takes. */
export class JoinedClient extends AMQPBaseClient {
  readonly #host: string;
  readonly #port: number;
  #write: Write = () => {};
  /** What was handed to the socket belongs to it, so that a slab is filled once. */
  #slab = new Uint8Array(SLAB_SIZE);
  #start = 0;
  #end = 0;
  /** The start of a frame whose rest has not come yet. */
  #partial: Uint8Array = new Uint8Array(0);

  constructor(url: string) {
    const { hostname, port, username, password, pathname } = new URL(url);
    super(pathname.slice(1), username, password, "limit", "", FRAME_MAX);
    this.#host = hostname;
    this.#port = Number(port);
  }

  override async connect(): Promise<this> {
    this.#write = await openSocket(this.#host, this.#port, (bytes) => this.#read(bytes));
    await new Promise<AMQPBaseClient>((resolve, reject) => {
      this.connectPromise = [resolve, reject];
      void this.send(PROTOCOL_HEADER);
    });
    return this;
  }

  /** Copies the bytes, since the client uses its buffers again once this is settled. */
  override send(bytes: Uint8Array): Promise<void> {
    const size = bytes.byteLength;
    if (size > this.#slab.byteLength - this.#end) {
      this.#flush();
      this.#slab = new Uint8Array(Math.max(SLAB_SIZE, size));
      this.#start = this.#end = 0;
    }
    if (this.#start === this.#end) queueMicrotask(this.#flush);
    this.#slab.set(bytes, this.#end);
    this.#end += size;
    return queued;
  }

  /** The process ends, and its socket with it. */
  protected override closeSocket(): void {}

  readonly #flush = (): void => {
    if (this.#start === this.#end) return;
    this.#write(this.#slab.subarray(this.#start, this.#end));
    this.#start = this.#end;
  };

  /** Hands all whole frames on at once. */
  #read(bytes: Uint8Array): void {
    const input = this.#partial.byteLength === 0 ? bytes : joined(this.#partial, bytes);
    const view = new AMQPView(input.buffer, input.byteOffset, input.byteLength);
    let end = 0;
    while (input.byteLength - end >= FRAME_HEADER) {
      const size = FRAME_HEADER + view.getUint32(end + 3) + 1;
      if (input.byteLength - end < size) break;
      end += size;
    }
    if (end > 0) this.parseFrames(new AMQPView(input.buffer, input.byteOffset, end));
    // A copy, since the bytes go back to the socket.
    this.#partial = new Uint8Array(input.subarray(end));
  }
}

function joined(first: Uint8Array, second: Uint8Array): Uint8Array {
  const both = new Uint8Array(first.byteLength + second.byteLength);
  both.set(first);
  both.set(second, first.byteLength);
  return both;
}
