/**
 * Sockets on Deno.
 *
 * @module
 */
import type { Address, ByteSocket, Dial } from "./byte_socket.ts";

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
  connectTls(options: object): Promise<DenoConnection & { handshake(): Promise<void> }>;
}

const READ_SIZE = 65_536;

/** Opens a socket with `Deno.connect`, and `Deno.startTls` on it. */
export const dialDeno: Dial = async (address, signal) => {
  signal.throwIfAborted();
  const opening = open(address);
  let abort = () => {};
  const aborted = new Promise<never>((_resolve, reject) => {
    abort = () => {
      reject(signal.reason);
      // Deno cannot give up a connection attempt, so one that comes too late is ended here.
      opening.then((connection) => connection.close(), () => {});
    };
    signal.addEventListener("abort", abort);
  });
  try {
    return new DenoByteSocket(await Promise.race([opening, aborted]));
  } finally {
    signal.removeEventListener("abort", abort);
  }
};

async function open({ host, port, tls }: Address): Promise<DenoConnection> {
  const { Deno } = globalThis as unknown as { Deno: DenoNet };
  if (tls === undefined || tls.cert === undefined) {
    const connection = await Deno.connect({ hostname: host, port });
    connection.setNoDelay(true);
    if (tls === undefined) return connection;
    const secure = await Deno.startTls(connection, {
      hostname: host,
      ...(tls.ca === undefined ? {} : { caCerts: [tls.ca] }),
    });
    await secure.handshake();
    return secure;
  }
  // Only connectTls takes a client certificate.
  const secure = await Deno.connectTls({
    hostname: host,
    port,
    ...(tls.ca === undefined ? {} : { caCerts: [tls.ca] }),
    cert: tls.cert,
    key: tls.key,
  });
  await secure.handshake();
  return secure;
}

class DenoByteSocket implements ByteSocket {
  ondata: (bytes: Uint8Array) => void = () => {};
  onclose: (error?: Error) => void = () => {};
  readonly #connection: DenoConnection;
  #waiting: Uint8Array[] = [];
  #writing = false;
  #closed = false;

  constructor(connection: DenoConnection) {
    this.#connection = connection;
    this.#read();
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
    try {
      this.#connection.close();
    } catch {
      // Closed by the runtime already.
    }
    this.onclose(error);
  }
}
