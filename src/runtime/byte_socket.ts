/**
 * A two-way stream of bytes: all that the AMQP client needs of a runtime.
 *
 * @module
 */
import type { TlsOptions } from "../options.ts";

/** An open socket. */
export interface ByteSocket {
  /** Called with what came in; the bytes are the callee's only until it returns. */
  ondata: (bytes: Uint8Array) => void;
  /** Called once when the socket has closed, by whichever side, with the reason if it was a failure. */
  onclose: (error?: Error) => void;
  /** Sends in the order of the calls. The bytes must not change afterwards. */
  write(bytes: Uint8Array): void;
  /** Closes at once. */
  close(): void;
}

/** Where to connect to. */
export interface Address {
  /** Host name or IP address, IPv6 without brackets. */
  readonly host: string;
  readonly port: number;
  /** Given for TLS. */
  readonly tls?: TlsOptions;
  /** Given for a WebSocket: the relay's url, without the account on the broker. */
  readonly webSocket?: string;
}

/** Opens a socket, TCP ones with TCP_NODELAY on. Rejects with the runtime's error, or the signal's reason. */
export type Dial = (address: Address, signal: AbortSignal) => Promise<ByteSocket>;
