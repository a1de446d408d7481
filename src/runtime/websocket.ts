/**
 * Sockets over a WebSocket, whose other end is a relay that hands the bytes on to the broker.
 *
 * @module
 */
import type { ByteSocket } from "./byte_socket.ts";

/** The part of a `WebSocket` that is used here. */
interface Socket {
  binaryType: string;
  readonly readyState: number;
  onopen: (() => void) | null;
  onmessage: ((event: { readonly data: unknown }) => void) | null;
  onerror: ((event: { readonly message?: unknown }) => void) | null;
  onclose: ((event: { readonly code: number; readonly reason: string }) => void) | null;
  send(bytes: Uint8Array): void;
  close(): void;
}

const OPEN = 1;
/** Relays gather a message before they hand it on, some the slower the longer it is. */
const MESSAGE_SIZE = 65_536;

/**
 * Opens a WebSocket. It asks for no subprotocol: relays choose one only if they know it, and a browser hangs up on a
 * relay that was asked for one and chose none.
 */
export function dialWebSocket(url: string, signal: AbortSignal): Promise<ByteSocket> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const { WebSocket } = globalThis as unknown as { WebSocket?: new (url: string) => Socket };
    if (WebSocket === undefined) {
      throw new Error("This runtime has no WebSocket: Node has one from version 22 on");
    }
    const socket = new WebSocket(url);
    const abort = () => {
      reject(signal.reason);
      socket.close();
    };
    signal.addEventListener("abort", abort);
    const byteSocket = new WebSocketByteSocket(socket, url);
    byteSocket.onclose = (error) => {
      signal.removeEventListener("abort", abort);
      reject(error);
    };
    socket.onopen = () => {
      signal.removeEventListener("abort", abort);
      resolve(byteSocket);
    };
  });
}

class WebSocketByteSocket implements ByteSocket {
  ondata: (bytes: Uint8Array) => void = () => {};
  onclose: (error?: Error) => void = () => {};
  readonly #socket: Socket;
  #closed = false;

  constructor(socket: Socket, url: string) {
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => {
      if (this.#closed) return;
      if (data instanceof ArrayBuffer) this.ondata(new Uint8Array(data));
      else this.#end(new Error("The relay sent text, which AMQP is not"));
    };
    // Not every Node tells of a close after an error.
    socket.onerror = ({ message }) => this.#end(failure(url, message));
    socket.onclose = ({ code, reason }) =>
      this.#end(
        new Error(`The WebSocket was closed with code ${code}${reason === "" ? "" : ` (${reason})`}`),
      );
  }

  /** What the network has not taken yet waits in the WebSocket, whose `bufferedAmount` has no event to wait for. */
  write(bytes: Uint8Array): void {
    if (this.#socket.readyState !== OPEN) return;
    for (let start = 0; start < bytes.byteLength; start += MESSAGE_SIZE) {
      this.#socket.send(bytes.subarray(start, start + MESSAGE_SIZE));
    }
  }

  close(): void {
    this.#end();
  }

  #end(error?: Error): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#socket.close();
    this.onclose(error);
  }
}

/** Browsers do not tell what went wrong; Bun's message has the url, in whose query there may be a secret. */
function failure(url: string, message: unknown): Error {
  const known = typeof message === "string" && message !== "" ? `: ${message.replaceAll(url, "…")}` : "";
  return new Error(`The WebSocket failed${known}`);
}
