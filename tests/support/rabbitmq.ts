/**
 * A RabbitMQ of the test run's own: own node name, free ports, own epmd, and everything it writes in one temporary
 * folder, so that it meets no other one on the machine.
 *
 * @module
 */
import { join } from "node:path";
import { type Broker, brokerAt } from "./management.ts";
import { startDaemon } from "./processes.ts";

/** The server's script; the one of the same name in /usr/sbin would change to another user. */
const SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server";

const START_TIMEOUT_MS = 90_000;

/** Whether the server is on this machine. */
export async function hasRabbitmq(): Promise<boolean> {
  return await Deno.stat(SERVER).then(() => true, () => false);
}

/** Starts a server that keeps its files below this folder, and resolves when it takes connections. */
export async function startRabbitmq(parent?: string): Promise<Broker> {
  await using started = new AsyncDisposableStack();
  const folder = await Deno.makeTempDir({
    prefix: "rabbitmq-",
    ...(parent === undefined ? {} : { dir: parent }),
  });
  started.defer(() => Deno.remove(folder, { recursive: true }));
  const [port, managementPort, epmdPort, distributionPort] = freePorts();

  await Deno.writeTextFile(join(folder, "rabbitmq.conf"), configuration(port, managementPort));
  await Deno.writeTextFile(join(folder, "enabled_plugins"), "[rabbitmq_management].\n");
  const epmdEnvironment = { ERL_EPMD_ADDRESS: "127.0.0.1", ERL_EPMD_PORT: `${epmdPort}` };
  started.use(startDaemon("epmd", [], epmdEnvironment));
  const server = started.use(startDaemon(SERVER, [], {
    ...epmdEnvironment,
    ...environment(folder, distributionPort),
  }));

  const broker = brokerAt(`amqp://guest:guest@127.0.0.1:${port}`, `http://127.0.0.1:${managementPort}`);
  const state = { ended: false };
  void server.ended.then(() => state.ended = true);
  const deadline = Date.now() + START_TIMEOUT_MS;
  // The listener for AMQP is the last thing that the server opens.
  while (!(await accepts(port) && await broker.answers())) {
    if (state.ended) throw new Error(`RabbitMQ did not start:\n${server.output().slice(-4_000)}`);
    if (Date.now() > deadline) throw new Error(`RabbitMQ was not ready within ${START_TIMEOUT_MS / 1000} s`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const running = started.move();
  return { ...broker, [Symbol.asyncDispose]: () => running.disposeAsync() };
}

function configuration(port: number, managementPort: number): string {
  return `
listeners.tcp.1 = 127.0.0.1:${port}
management.tcp.ip = 127.0.0.1
management.tcp.port = ${managementPort}
vm_memory_high_watermark.absolute = 1GB
disk_free_limit.absolute = 64MB
# Queue lengths in the management API are this old at most, in ms.
collect_statistics_interval = 500
log.console = true
log.console.level = warning
log.file = false
`;
}

function environment(folder: string, distributionPort: number): Record<string, string> {
  return {
    // The Erlang cookie is put there.
    HOME: folder,
    // Makes the script become the server, in place of waiting for it as a child.
    RUNNING_UNDER_SYSTEMD: "true",
    RABBITMQ_NODENAME: `nuropb-test-${crypto.randomUUID().slice(0, 8)}@localhost`,
    RABBITMQ_DIST_PORT: `${distributionPort}`,
    RABBITMQ_CONF_ENV_FILE: join(folder, "none.conf"),
    RABBITMQ_CONFIG_FILE: join(folder, "rabbitmq.conf"),
    RABBITMQ_ADVANCED_CONFIG_FILE: join(folder, "none.config"),
    RABBITMQ_ENABLED_PLUGINS_FILE: join(folder, "enabled_plugins"),
    RABBITMQ_MNESIA_BASE: join(folder, "data"),
    RABBITMQ_LOG_BASE: join(folder, "log"),
    RABBITMQ_PID_FILE: join(folder, "pid"),
    RABBITMQ_LOGS: "-",
    // No spinning while idle, as the tests need the processor; Ctrl-C is the runner's.
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS:
      "+B i +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}",
  };
}

/** Four ports that nobody listens on. They are all held at once, so that they differ. */
function freePorts(): [number, number, number, number] {
  const listen = () => Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const listeners = [listen(), listen(), listen(), listen()] as const;
  for (const listener of listeners) listener.close();
  const [amqp, management, epmd, distribution] = listeners;
  return [amqp.addr.port, management.addr.port, epmd.addr.port, distribution.addr.port];
}

async function accepts(port: number): Promise<boolean> {
  try {
    const connection = await Deno.connect({ hostname: "127.0.0.1", port });
    connection.close();
    return true;
  } catch {
    return false;
  }
}
