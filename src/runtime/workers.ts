/**
 * Sockets on Cloudflare Workers.
 *
 * @module
 */
import type { Address, ByteSocket, Dial } from "./byte_socket.ts";

/** The part of a Workers socket that is used here. */
interface Socket {
  readonly opened: Promise<unknown>;
  readonly readable: ReadableStream<Uint8Array>;
  readonly writable: WritableStream<Uint8Array>;
  close(): Promise<void>;
}

interface WorkersSockets {
  connect(address: { hostname: string; port: number }, options: { secureTransport: "on" | "off" }): Socket;
}

/** In a variable, so that neither a bundler nor another runtime looks for a module that only Workers have. */
const SOCKETS: string = "cloudflare:sockets";

/** Opens a socket with `connect` of `cloudflare:sockets`. */
export const dialWorkers: Dial = async ({ host, port, tls }, signal) => {
  signal.throwIfAborted();
  refuseCertificates(tls);
  const { connect } = await import(SOCKETS) as WorkersSockets;
  const socket = connect({ hostname: host, port }, { secureTransport: tls === undefined ? "off" : "on" });
  const abort = () => void socket.close().catch(() => {});
  signal.addEventListener("abort", abort);
  try {
    await socket.opened;
    signal.throwIfAborted();
    return new WorkersByteSocket(socket);
  } finally {
    signal.removeEventListener("abort", abort);
  }
};

function refuseCertificates(tls: Address["tls"]): void {
  if (tls?.ca === undefined && tls?.cert === undefined && tls?.key === undefined) return;
  throw new Error(
    "Workers take no certificates of yours: leave tls out, and have the broker's signed publicly",
  );
}

class WorkersByteSocket implements ByteSocket {
  ondata: (bytes: Uint8Array) => void = () => {};
  onclose: (error?: Error) => void = () => {};
  readonly #socket: Socket;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  #closed = false;

  constructor(socket: Socket) {
    this.#socket = socket;
    this.#writer = socket.writable.getWriter();
    void this.#read();
  }

  write(bytes: Uint8Array): void {
    if (this.#closed) return;
    this.#writer.write(bytes).catch((error: Error) => this.#end(error));
  }

  close(): void {
    this.#end();
  }

  async #read(): Promise<void> {
    const reader = this.#socket.readable.getReader();
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return this.#end();
        this.ondata(value);
      }
    } catch (error) {
      this.#end(error as Error);
    }
  }

  #end(error?: Error): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#socket.close().catch(() => {});
    this.onclose(error);
  }
}
