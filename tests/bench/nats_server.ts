/**
 * A NATS server of the benchmark's own, from Debian's package.
 *
 * @module
 */
import { installDebianPackage, isRoot } from "../support/debian.ts";
import { startDaemon } from "../support/daemon.ts";
import { accepts, freePorts } from "../support/ports.ts";
import { which } from "../support/runtimes.ts";

/** A running server. */
export interface NatsServer extends AsyncDisposable {
  readonly url: string;
}

const START_TIMEOUT = 10_000;

/** Starts a server on a free port; undefined where there is none and none can be installed. */
export async function startNats(): Promise<NatsServer | undefined> {
  const command = await findServer();
  if (command === undefined) return undefined;
  const [port] = await freePorts(1);
  const daemon = startDaemon(command, ["--addr", "127.0.0.1", "--port", `${port}`], {});
  const deadline = Date.now() + START_TIMEOUT;
  while (!await accepts(port)) {
    if (Date.now() > deadline) throw new Error(`The NATS server did not start:\n${daemon.output()}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return {
    url: `nats://127.0.0.1:${port}`,
    [Symbol.asyncDispose]: () => daemon[Symbol.asyncDispose](),
  };
}

async function findServer(): Promise<string | undefined> {
  const found = await which("nats-server");
  if (found !== undefined || !isRoot()) return found;
  await installDebianPackage("nats-server");
  return await which("nats-server");
}
