/**
 * Sockets on Bun.
 *
 * @module
 */
import type { ByteSocket, Dial } from "./byte_socket.ts";
import { closedEarly, withAdvice } from "./tls_failure.ts";

/** The part of a Bun socket that is used here. */
interface Socket {
  setNoDelay(on: boolean): void;
  /** Gives how many bytes the kernel took. */
  write(bytes: Uint8Array): number;
  terminate(): void;
}

interface Handlers {
  binaryType: "uint8array";
  open(socket: Socket): void;
  handshake?(socket: Socket, success: boolean, error: Error | null): void;
  data(socket: Socket, bytes: Uint8Array): void;
  drain(): void;
  close(socket: Socket, error?: Error): void;
  error(socket: Socket, error: Error): void;
  connectError(socket: Socket, error: Error): void;
}

interface BunSockets {
  connect(options: { hostname: string; port: number; tls?: object; socket: Handlers }): Promise<Socket>;
}

/** Opens a socket with `Bun.connect`. */
export const dialBun: Dial = ({ host, port, tls }, signal) =>
  new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const { Bun } = globalThis as unknown as { Bun: BunSockets };
    let opened: BunByteSocket | undefined;
    /** Whether it is TLS over which nothing has come in yet. */
    let isMute = tls !== undefined;
    const abort = () => reject(signal.reason);
    signal.addEventListener("abort", abort);
    const open = (socket: Socket) => {
      signal.removeEventListener("abort", abort);
      // Bun cannot give up a connection attempt, so one that comes too late is ended here.
      if (signal.aborted) return socket.terminate();
      socket.setNoDelay(true);
      opened = new BunByteSocket(socket);
      resolve(opened);
    };
    const fail = (error: Error) => {
      signal.removeEventListener("abort", abort);
      if (opened === undefined) reject(withAdvice(error));
      else opened.fail(isMute ? closedEarly(error) : error);
    };
    const handlers: Handlers = {
      // Bun's default is Node's buffers, whose parts are slow to make.
      binaryType: "uint8array",
      open: (socket) => {
        if (tls === undefined) open(socket);
      },
      data: (_socket, bytes) => {
        isMute = false;
        opened?.ondata(bytes);
      },
      drain: () => opened?.drain(),
      close: (_socket, error) => fail(error ?? new Error("The connection was closed")),
      error: (_socket, error) => fail(error),
      connectError: (_socket, error) => fail(error),
    };
    if (tls !== undefined) {
      handlers.handshake = (socket, success, error) => {
        if (success && error === null) return open(socket);
        fail(error ?? new Error("The TLS handshake failed"));
        socket.terminate();
      };
    }
    Bun.connect({
      hostname: host,
      port,
      ...(tls === undefined ? {} : {
        // Nothing but these, so that no other option turns the checks off.
        tls: { ca: tls.ca, cert: tls.cert, key: tls.key, serverName: host, rejectUnauthorized: true },
      }),
      socket: handlers,
    }).catch(fail);
  });

class BunByteSocket implements ByteSocket {
  ondata: (bytes: Uint8Array) => void = () => {};
  onclose: (error?: Error) => void = () => {};
  readonly #socket: Socket;
  /** What the kernel has not taken yet. */
  #waiting: Uint8Array[] = [];
  #closed = false;

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  write(bytes: Uint8Array): void {
    if (this.#closed) return;
    if (this.#waiting.length > 0) {
      this.#waiting.push(bytes);
      return;
    }
    const taken = Math.max(0, this.#socket.write(bytes));
    if (taken < bytes.byteLength) this.#waiting.push(bytes.subarray(taken));
  }

  drain(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const bytes of waiting) this.write(bytes);
  }

  close(): void {
    if (!this.#closed) this.#socket.terminate();
  }

  fail(error?: Error): void {
    if (this.#closed) return;
    this.#closed = true;
    this.onclose(error);
  }
}
