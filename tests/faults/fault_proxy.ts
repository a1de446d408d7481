/**
 * A TCP proxy that stands between a mesh and its broker and does to their connection what networks do.
 *
 * @module
 */
import { connect, createServer, type Server, type Socket } from "node:net";
import { freePorts } from "../support/ports.ts";
import { FaultLink } from "./fault_link.ts";

/** Which way bytes go. */
export type Direction = "toServer" | "toClient";

/** What happens to bytes now, on every link and each way. */
export interface FaultSettings {
  readonly swallow: Record<Direction, boolean>;
  /** One-way latency in ms. */
  delay: number;
  bytesPerSecond: number | undefined;
  /** How many bytes still go through before their link is reset, and whom to tell. */
  readonly cut: Partial<Record<Direction, { remaining: number; done(): void }>>;
}

/** What went through. */
export interface FaultCounts {
  /** Bytes that came, whatever became of them. */
  readonly bytes: Record<Direction, number>;
  /** How often clients began to send after an answer: the round trips so far, the one under way included. */
  flights: number;
}

/** A running proxy. */
export interface FaultProxy extends AsyncDisposable {
  readonly port: number;
  /** The same AMQP url, through this proxy. */
  url(of: string): string;
  /** How many links are open. */
  readonly connections: number;
  /** How many links there ever were. */
  readonly accepted: number;
  /** See {@linkcode FaultCounts}. */
  readonly flights: number;
  /** Bytes that came each way, whatever became of them. */
  readonly stats: Readonly<Record<Direction, number>>;
  /** Ends every link in an orderly way (FIN). */
  drop(): void;
  /** Breaks every link (RST). */
  reset(): void;
  /**
   * Swallows what is sent, without closing anything, on new links too. A link that has lost bytes stays deaf after
   * that, as it could only go on in the middle of a frame.
   */
  halfOpen(on: boolean, direction?: Direction): void;
  /** Takes no new connection, or takes them again, on the same port. Open links go on. */
  refuse(on: boolean): Promise<void>;
  /** Each way takes so many ms from now on. */
  delay(ms: number): void;
  /** Each link carries so much each way from now on, or all it can. */
  throttle(bytesPerSecond?: number): void;
  /** Lets so many more bytes through this way, then breaks the link that they went over, and resolves. */
  cutAfter(bytes: number, direction: Direction): Promise<void>;
}

/** Where the broker is. */
export interface FaultTarget {
  readonly host: string;
  readonly port: number;
}

const HOST = "127.0.0.1";

/** How often the port is asked for again, should somebody else have it for a moment. */
const LISTEN_ATTEMPTS = 50;

/** Starts a proxy on a free port of the loopback interface. */
export async function startFaultProxy(target: FaultTarget): Promise<FaultProxy> {
  const links = new Set<FaultLink>();
  const counts: FaultCounts = { bytes: { toServer: 0, toClient: 0 }, flights: 0 };
  const settings: FaultSettings = {
    swallow: { toServer: false, toClient: false },
    delay: 0,
    bytesPerSecond: undefined,
    cut: {},
  };
  let accepted = 0;

  const accept = (client: Socket) => {
    accepted++;
    const server = connect({ ...target, noDelay: true, allowHalfOpen: true });
    const link = new FaultLink(client, server, settings, counts, () => links.delete(link));
    links.add(link);
  };
  // One that no connection of someone else's holds when it listens there again.
  const anyPort = async () => (await freePorts(1))[0];
  let server: Server | undefined = await listen(accept, anyPort);
  const address = server.address();
  if (address === null || typeof address === "string") throw new TypeError("The proxy has no port");
  const { port } = address;

  return {
    port,
    stats: counts.bytes,
    url(of) {
      const url = new URL(of);
      url.hostname = HOST;
      url.port = `${port}`;
      return url.href;
    },
    get connections() {
      return links.size;
    },
    get accepted() {
      return accepted;
    },
    get flights() {
      return counts.flights;
    },
    drop() {
      for (const link of [...links]) link.drop();
    },
    reset() {
      for (const link of [...links]) link.reset();
    },
    halfOpen(on, direction) {
      if (direction !== "toClient") settings.swallow.toServer = on;
      if (direction !== "toServer") settings.swallow.toClient = on;
    },
    async refuse(on) {
      if (on) {
        // Its callback would wait for the open links.
        server?.close();
        server = undefined;
      } else {
        server ??= await listen(accept, () => port);
      }
    },
    delay(ms) {
      settings.delay = ms;
    },
    throttle(bytesPerSecond) {
      settings.bytesPerSecond = bytesPerSecond;
    },
    cutAfter(bytes, direction) {
      return new Promise((done) => settings.cut[direction] = { remaining: bytes, done });
    },
    // deno-lint-ignore require-await -- A caller awaits whatever it disposes of.
    async [Symbol.asyncDispose]() {
      server?.close();
      for (const link of [...links]) link.reset();
    },
  };
}

async function listen(
  accept: (client: Socket) => void,
  portOf: () => number | Promise<number>,
): Promise<Server> {
  for (let attempt = 1;; attempt++) {
    const server = createServer({ noDelay: true, allowHalfOpen: true }, accept);
    const port = await portOf();
    try {
      await new Promise<void>((resolve, reject) => {
        server.once("error", reject);
        server.listen(port, HOST, resolve);
      });
      return server;
    } catch (error) {
      if (attempt === LISTEN_ATTEMPTS) throw error;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}
