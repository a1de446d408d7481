/**
 * A WebSocket relay to the broker: Debian's websockify, as a process of the test's own.
 *
 * @module
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Certificate } from "../security/certificates.ts";
import { type Daemon, startDaemon } from "../support/daemon.ts";
import { tool } from "../support/env.ts";
import { accepts, freePorts } from "../support/ports.ts";
import { eventually } from "../conformance/stage.ts";

/** A relay that can go away and come back. */
export interface WebSocketRelay extends AsyncDisposable {
  /** The url for a mesh, with the account and the virtual host of the broker's. */
  readonly url: string;
  /** The same for another `amqp:` url of that broker. */
  urlFor(broker: string): string;
  /** Ends it at once, and with it all its connections. */
  stop(): Promise<void>;
  /** Starts it again, and resolves when it takes connections. */
  start(): Promise<void>;
}

/** How the relay is to listen. */
export interface RelayOptions {
  /** What it shows, for `wss:`. */
  readonly certificate?: Certificate;
  /** Host name in the url. Default: 127.0.0.1 */
  readonly host?: string;
}

/** Starts a relay to the broker of an `amqp:` url. */
export async function startWebsockify(broker: string, options: RelayOptions = {}): Promise<WebSocketRelay> {
  const [port] = await freePorts(1);
  const { certificate } = options;
  let folder: string | undefined;
  const mode = async () => {
    // Threads, and not processes, which would outlive the one that is ended here; they have no TLS.
    if (certificate === undefined) return ["--libserver"];
    folder = await mkdtemp(join(tmpdir(), "nuropb-wss-"));
    const [cert, key] = [join(folder, "cert.pem"), join(folder, "key.pem")];
    await writeFile(cert, certificate.cert);
    await writeFile(key, certificate.key);
    return [`--cert=${cert}`, `--key=${key}`, "--ssl-only"];
  };
  const urlFor = (of: string) => {
    const { username, password, pathname } = new URL(of);
    const authority = `${username}:${password}@${options.host ?? "127.0.0.1"}:${port}`;
    // The path is of no use to the relay: there the tests look for the virtual host.
    return `${certificate === undefined ? "ws" : "wss"}://${authority}${pathname}?vhost=${pathname.slice(1)}`;
  };
  let daemon: Daemon | undefined;
  const relay: WebSocketRelay = {
    url: urlFor(broker),
    urlFor,
    async start() {
      daemon = startDaemon(
        tool("websockify") ?? "",
        [...await mode(), `127.0.0.1:${port}`, new URL(broker).host],
        {},
      );
      await eventually(() => accepts(port), (accepted) => accepted);
    },
    async stop() {
      await daemon?.[Symbol.asyncDispose]();
      daemon = undefined;
      if (folder !== undefined) await rm(folder, { recursive: true });
      folder = undefined;
    },
    [Symbol.asyncDispose]: () => relay.stop(),
  };
  await relay.start();
  return relay;
}
