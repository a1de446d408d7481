/**
 * A TCP proxy that makes the broker seem far away, and counts round trips.
 *
 * @module
 */
import { connect, createServer, type Socket } from "node:net";

/** A running proxy. */
export interface DelayProxy extends AsyncDisposable {
  /** The same url, through this proxy. */
  through(url: string): string;
  /** Round trips that are complete, those of opening the connections included. */
  readonly roundTrips: number;
}

/**
 * Starts a proxy on a free port. A connection through it is open for the client at once, as the kernel takes it;
 * what a far server's answer to the opening would have taken is added to what the client sends before that.
 *
 * @param delay One way, in ms.
 */
export async function startDelayProxy(target: string, delay: number): Promise<DelayProxy> {
  const { hostname, port } = new URL(target);
  const sockets = new Set<Socket>();
  const counts = { roundTrips: 0 };
  const server = createServer({ noDelay: true }, (client) => {
    const accepted = performance.now();
    const upstream = connect({ host: hostname, port: Number(port), noDelay: true });
    /** When the client began to send what is not known to be answered. */
    let asked: number | undefined;
    counts.roundTrips++;
    for (const [socket, other] of [[client, upstream], [upstream, client]] as const) {
      sockets.add(socket);
      socket.on("error", () => other.destroy());
      socket.on("close", () => (sockets.delete(socket), other.destroy()));
    }
    const toServer = delayLine();
    client.on("data", (bytes) => {
      asked ??= performance.now();
      toServer(Math.max(accepted + 2 * delay, performance.now()) + delay, () => upstream.write(bytes));
    });
    const toClient = delayLine();
    upstream.on("data", (bytes) => {
      // A server that speaks first has the client's opening behind it, and half a round trip before it.
      toClient(Math.max(accepted + delay, performance.now()) + delay, () => {
        // What comes sooner than light could have been there and back is no answer to it.
        if (asked !== undefined && performance.now() >= asked + 2 * delay) {
          counts.roundTrips++;
          asked = undefined;
        }
        client.write(bytes);
      });
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (typeof address !== "object" || address === null) throw new Error("The proxy has no port");
  return {
    through(url) {
      const proxied = new URL(url);
      proxied.hostname = "127.0.0.1";
      proxied.port = `${address.port}`;
      return proxied.href;
    },
    get roundTrips() {
      return counts.roundTrips;
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Runs tasks at their times, and never one before those that were given before it, which timers alone may do. */
function delayLine(): (at: number, task: () => void) => void {
  const waiting: { readonly at: number; readonly task: () => void }[] = [];
  const run = () => {
    while (waiting[0] !== undefined && waiting[0].at <= performance.now()) waiting.shift()?.task();
    if (waiting[0] !== undefined) setTimeout(run, Math.max(1, waiting[0].at - performance.now()));
  };
  return (at, task) => {
    waiting.push({ at, task });
    if (waiting.length === 1) run();
  };
}
