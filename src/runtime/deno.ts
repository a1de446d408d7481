/**
 * Sockets on Deno.
 *
 * @module
 */
import type { TlsOptions } from "../options.ts";
import type { Address, ByteSocket, Dial } from "./byte_socket.ts";
import { dialNode } from "./node.ts";
import { closedEarly, withAdvice } from "./tls_failure.ts";

/** The part of a `Deno.Conn` that is used here. */
interface DenoConnection {
  read(into: Uint8Array): Promise<number | null>;
  write(bytes: Uint8Array): Promise<number>;
  close(): void;
}

interface DenoNet {
  connect(options: object): Promise<DenoConnection & { setNoDelay(on: boolean): void }>;
  startTls(
    connection: DenoConnection,
    options: object,
  ): Promise<DenoConnection & { handshake(): Promise<void> }>;
}

const READ_SIZE = 65_536;

/** Opens a socket with `Deno.connect`, and `Deno.startTls` on it. */
export const dialDeno: Dial = async (address, signal) => {
  signal.throwIfAborted();
  // Of Deno's own functions only `connectTls` takes a client certificate, and its sockets cannot be told not to wait
  // for more to send: each answer would take 40 ms.
  if (address.tls?.cert !== undefined) {
    checkClientCertificate(address.tls);
    return await dialNode(address, signal);
  }
  const opening = open(address, signal);
  let abort = () => {};
  const aborted = new Promise<never>((_resolve, reject) => {
    abort = () => {
      reject(signal.reason);
      // Deno cannot give up a connection attempt, so one that comes too late is ended here.
      opening.then(close, () => {});
    };
    signal.addEventListener("abort", abort);
  });
  try {
    const connection = await Promise.race([opening, aborted]);
    return new DenoByteSocket(connection, address.tls !== undefined);
  } catch (error) {
    throw signal.aborted ? signal.reason : withAdvice(error as Error);
  } finally {
    signal.removeEventListener("abort", abort);
  }
};

/** Deno's `node:tls` goes on without what it cannot read, and says nothing. */
function checkClientCertificate({ cert = "", key = "" }: TlsOptions): void {
  const isCertificate = /-BEGIN CERTIFICATE-[^]+-END CERTIFICATE-/.test(cert);
  if (isCertificate && /-BEGIN (\w+ )?PRIVATE KEY-[^]+-END (\w+ )?PRIVATE KEY-/.test(key)) return;
  throw new Error("tls.cert must be a certificate and tls.key its private key, not encrypted, both PEM");
}

async function open({ host, port, tls }: Address, signal: AbortSignal): Promise<DenoConnection> {
  const { Deno } = globalThis as unknown as { Deno: DenoNet };
  const connection = await Deno.connect({ hostname: host, port });
  connection.setNoDelay(true);
  if (tls === undefined) return connection;
  const secure = await Deno.startTls(connection, {
    hostname: host,
    ...(tls.ca === undefined ? {} : { caCerts: [tls.ca] }),
  });
  // A peer may leave the handshake without an end.
  const abort = () => close(secure);
  signal.addEventListener("abort", abort);
  try {
    signal.throwIfAborted();
    await secure.handshake();
    return secure;
  } catch (error) {
    close(secure);
    throw error;
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

function close(connection: DenoConnection): void {
  try {
    connection.close();
  } catch {
    // Closed already.
  }
}

class DenoByteSocket implements ByteSocket {
  onclose: (error?: Error) => void = () => {};
  readonly #connection: DenoConnection;
  /** Whether it is TLS over which nothing has come in yet. */
  #isMute: boolean;
  #ondata: ByteSocket["ondata"] | undefined;
  #waiting: Uint8Array[] = [];
  #writing = false;
  #closed = false;

  constructor(connection: DenoConnection, isSecure: boolean) {
    this.#connection = connection;
    this.#isMute = isSecure;
  }

  get ondata(): ByteSocket["ondata"] {
    return this.#ondata ?? (() => {});
  }

  /** Reading begins with the first one, so that nobody misses what comes, or an end that comes at once. */
  set ondata(ondata: ByteSocket["ondata"]) {
    const isFirst = this.#ondata === undefined;
    this.#ondata = ondata;
    if (isFirst) this.#read();
  }

  write(bytes: Uint8Array): void {
    this.#waiting.push(bytes);
    if (!this.#writing) this.#drain();
  }

  close(): void {
    this.#end();
  }

  async #read(): Promise<void> {
    const buffer = new Uint8Array(READ_SIZE);
    try {
      for (;;) {
        const count = await this.#connection.read(buffer);
        if (count === null) return this.#end();
        this.#isMute = false;
        this.ondata(buffer.subarray(0, count));
      }
    } catch (error) {
      this.#end(error as Error);
    }
  }

  async #drain(): Promise<void> {
    this.#writing = true;
    try {
      for (let bytes = this.#waiting.shift(); bytes !== undefined; bytes = this.#waiting.shift()) {
        for (let written = 0; written < bytes.byteLength;) {
          written += await this.#connection.write(bytes.subarray(written));
        }
      }
    } catch (error) {
      this.#end(error as Error);
    }
    this.#writing = false;
  }

  #end(error?: Error): void {
    if (this.#closed) return;
    this.#closed = true;
    close(this.#connection);
    this.onclose(this.#isMute ? closedEarly(error) : error);
  }
}
