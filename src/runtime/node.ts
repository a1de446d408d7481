/**
 * Sockets on Node.
 *
 * @module
 */
import type { Address, ByteSocket, Dial } from "./byte_socket.ts";
import { closedEarly, withAdvice } from "./tls_failure.ts";

/** The part of a `net.Socket` that is used here. */
interface Socket {
  setNoDelay(on: boolean): void;
  on(event: "error", listener: (error: Error) => void): void;
  on(event: "close" | "connect" | "secureConnect", listener: () => void): void;
  write(bytes: Uint8Array): void;
  destroy(error?: Error): void;
}

interface NodeModules {
  "node:net": { connect(options: Record<string, unknown>): Socket; isIP(host: string): number };
  "node:tls": { connect(options: Record<string, unknown>): Socket };
}

/** What `process` gives without an import that a bundler for the web would stumble over. */
interface NodeProcess {
  getBuiltinModule<Name extends keyof NodeModules>(name: Name): NodeModules[Name];
}

/** How much is read at once, in bytes. */
const READ_SIZE = 65_536;

/** Opens a socket with Node's `net` or `tls`. */
export const dialNode: Dial = (address, signal) =>
  new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const socket = open(address, (bytes) => {
      isMute = false;
      byteSocket.ondata(bytes);
    });
    const abort = () => socket.destroy(signal.reason as Error);
    signal.addEventListener("abort", abort);
    const opening = { settled: false };
    /** Whether it is TLS over which nothing has come in yet. */
    let isMute = address.tls !== undefined;
    let failure: Error | undefined;
    const byteSocket: ByteSocket = {
      ondata: () => {},
      onclose: () => {},
      write: (bytes) => socket.write(bytes),
      close: () => socket.destroy(),
    };
    socket.on(address.tls === undefined ? "connect" : "secureConnect", () => {
      socket.setNoDelay(true);
      signal.removeEventListener("abort", abort);
      opening.settled = true;
      resolve(byteSocket);
    });
    socket.on("error", (error) => failure = error);
    socket.on("close", () => {
      signal.removeEventListener("abort", abort);
      if (opening.settled) byteSocket.onclose(isMute ? closedEarly(failure) : failure);
      else reject(withAdvice(failure ?? new Error("The connection was closed")));
    });
  });

function open({ host, port, tls }: Address, ondata: (bytes: Uint8Array) => void): Socket {
  const { process } = globalThis as unknown as { process: NodeProcess };
  const net = process.getBuiltinModule("node:net");
  // One buffer for all that comes in, past Node's streams, which would make one for each chunk.
  const buffer = new Uint8Array(READ_SIZE);
  const onread = {
    buffer,
    callback: (size: number) => {
      ondata(buffer.subarray(0, size));
      return true;
    },
  };
  if (tls === undefined) return net.connect({ host, port, onread });
  const { ca, cert, key } = tls;
  return process.getBuiltinModule("node:tls").connect({
    ca,
    cert,
    key,
    host,
    port,
    onread,
    // Said outright, it holds against NODE_TLS_REJECT_UNAUTHORIZED in the environment too.
    rejectUnauthorized: true,
    // A server name in TLS may not be an IP address.
    servername: net.isIP(host) === 0 ? host : "",
  });
}
