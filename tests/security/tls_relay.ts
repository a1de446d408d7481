/**
 * TLS in front of a broker that has none, under whichever certificate a test wants to see refused.
 *
 * @module
 */
import { connect } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { createServer } from "node:tls";
import type { Certificate } from "./certificates.ts";

/** A listening port. */
export interface TlsRelay extends AsyncDisposable {
  readonly port: number;
  /** How many connections came through, shaken hands and all. */
  readonly connections: () => number;
  /** Closes every connection. */
  cut(): void;
}

/**
 * Starts a relay.
 *
 * @param url The broker's. @param certificate What it shows. @param listenOn Its port; by default any.
 */
export async function tlsRelay(url: string, certificate: Certificate, listenOn = 0): Promise<TlsRelay> {
  const { hostname, port } = new URL(url);
  const open = new Set<() => void>();
  let connections = 0;
  const server = createServer({ cert: certificate.cert, key: certificate.key }, (near) => {
    connections++;
    const far = connect({ host: hostname, port: port === "" ? 5672 : Number(port) });
    const sockets: readonly Socket[] = [near, far];
    const end = () => {
      open.delete(end);
      for (const socket of sockets) socket.destroy();
    };
    open.add(end);
    for (const socket of sockets) {
      socket.setNoDelay(true);
      socket.on("error", end);
      socket.on("close", end);
    }
    near.on("data", (bytes) => void far.write(bytes));
    far.on("data", (bytes) => void near.write(bytes));
  });
  // A client that does not like the certificate leaves during the handshake.
  server.on("tlsClientError", () => {});
  await new Promise<void>((resolve) => server.listen(listenOn, "127.0.0.1", resolve));
  const cut = () => {
    for (const end of open) end();
  };
  return {
    port: (server.address() as AddressInfo).port,
    connections: () => connections,
    cut,
    async [Symbol.asyncDispose]() {
      const closed = new Promise((resolve) => server.close(resolve));
      cut();
      await closed;
    },
  };
}
