/**
 * Something that listens on a port of its own, as a broker would, and does not behave like one.
 *
 * @module
 */
import { connect, createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";

/** A listening port. */
export interface Listener {
  readonly port: number;
  /** How many connections have been opened, and how many of them are open. */
  readonly connections: { opened: number; open: number };
  close(): Promise<void>;
}

/** Starts to listen, and does with each connection what it is told. */
export async function listen(onconnection: (socket: Socket) => void = () => {}): Promise<Listener> {
  const sockets = new Set<Socket>();
  const connections = { opened: 0, open: 0 };
  const server = createServer((socket) => {
    sockets.add(socket);
    connections.opened++;
    connections.open++;
    // Without a reader the end of the stream would not be seen.
    socket.on("data", () => {});
    socket.on("error", () => {});
    socket.on("close", () => {
      sockets.delete(socket);
      connections.open--;
    });
    onconnection(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    connections,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}

/** A port that nobody listens on. */
export async function closedPort(): Promise<number> {
  const { port, close } = await listen();
  await close();
  return port;
}

/** Hands bytes on to a broker and back, until it is told not to. */
export interface Relay extends Listener {
  /** The broker's url, by way of the relay. */
  readonly url: string;
  /** Closes every connection. */
  cut(): void;
  /** From now on hands nothing on, though the connections stay. */
  freeze(): void;
}

/** Starts a relay to the broker of a url. */
export async function relay(url: string): Promise<Relay> {
  const { hostname, port, protocol, username, password, pathname } = new URL(url);
  const pairs = new Set<() => void>();
  let frozen = false;
  const listener = await listen((near) => {
    const far = connect({ host: hostname, port: port === "" ? 5672 : Number(port) });
    const end = () => {
      near.destroy();
      far.destroy();
      pairs.delete(end);
    };
    pairs.add(end);
    const hand = (from: Socket, to: Socket) => from.on("data", (bytes) => void (frozen || to.write(bytes)));
    hand(near, far);
    hand(far, near);
    for (const socket of [near, far]) {
      socket.setNoDelay(true);
      socket.on("error", end);
      socket.on("close", end);
    }
  });
  const cut = () => {
    for (const end of pairs) end();
  };
  return {
    ...listener,
    url: `${protocol}//${username}:${password}@127.0.0.1:${listener.port}${pathname}`,
    cut,
    freeze: () => void (frozen = true),
    close: async () => {
      cut();
      await listener.close();
    },
  };
}
