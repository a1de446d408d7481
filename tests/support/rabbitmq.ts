/**
 * A RabbitMQ of the test run's own, or of one test's: own node name, free ports, own epmd, and everything it writes in
 * one temporary folder, so that it meets no other one on the machine. It can be killed and started again, and several
 * make a cluster.
 *
 * @module
 */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { type Daemon, startDaemon } from "./daemon.ts";
import { type Broker, brokerAt } from "./management.ts";
import { accepts, freePorts } from "./ports.ts";

/** Where the scripts are; those of the same name in /usr/sbin would change to another user. */
const SCRIPTS = "/usr/lib/rabbitmq/bin";

const START_TIMEOUT_MS = 90_000;
const START_ATTEMPTS = 3;

/** One node, which can be ended and started again: it keeps its name, its ports and its files. */
export interface RabbitmqNode extends Broker {
  /** The node's name in Erlang, as the management API shows it. */
  readonly name: string;
  readonly port: number;
  readonly managementUrl: string;
  /** Starts it again, and resolves as soon as it takes connections. */
  start(): Promise<void>;
  /** Ends it at once, with SIGKILL. */
  kill(): Promise<void>;
  /** Lets it stand still, and go on. */
  signal(signal: "SIGSTOP" | "SIGCONT"): void;
  /** Runs `rabbitmqctl` on it, and gives what that printed. */
  control(...args: string[]): Promise<string>;
}

/** Nodes of one cluster. */
export interface RabbitmqCluster extends AsyncDisposable {
  readonly nodes: readonly RabbitmqNode[];
}

/** What the nodes of one cluster share. */
interface Home extends AsyncDisposable {
  readonly folder: string;
  readonly env: Readonly<Record<string, string>>;
}

/** Whether the server is on this machine. */
export function hasRabbitmq(): Promise<boolean> {
  return Promise.resolve(existsSync(`${SCRIPTS}/rabbitmq-server`));
}

/**
 * Starts a server that keeps its files below this folder, and resolves when it takes connections.
 *
 * @param statisticsInterval How old a queue's length in the management API is at most, in ms.
 */
export async function startRabbitmq(parent?: string, statisticsInterval?: number): Promise<RabbitmqNode> {
  const { nodes: [node], ...cluster } = await startCluster(1, parent, statisticsInterval);
  return { ...node!, [Symbol.asyncDispose]: cluster[Symbol.asyncDispose] };
}

/** Starts so many servers as one cluster, and resolves when all of them take connections. */
export async function startCluster(
  size: number,
  parent: string = tmpdir(),
  statisticsInterval = 500,
): Promise<RabbitmqCluster> {
  const home = await makeHome(parent);
  const nodes: RabbitmqNode[] = [];
  const cluster = {
    nodes,
    async [Symbol.asyncDispose]() {
      await Promise.all(nodes.map((node) => node[Symbol.asyncDispose]()));
      await home[Symbol.asyncDispose]();
    },
  };
  const add = async () => {
    const node = await makeNode(home, nodes[0]?.name, statisticsInterval);
    nodes.push(node);
    return node;
  };
  const startFully = async (node: RabbitmqNode) => {
    await node.start();
    await until(node.answers);
  };
  try {
    // The others join the first one, which must be there by then.
    await startFully(await add());
    while (nodes.length < size) await add();
    await Promise.all(nodes.slice(1).map(startFully));
    return cluster;
  } catch (error) {
    await cluster[Symbol.asyncDispose]();
    throw error;
  }
}

/** A folder for everything, with an epmd. */
async function makeHome(parent: string): Promise<Home> {
  const folder = await mkdtemp(join(parent, "rabbitmq-"));
  const [epmdPort] = await freePorts(1);
  const epmdEnv = { ERL_EPMD_ADDRESS: "127.0.0.1", ERL_EPMD_PORT: `${epmdPort}` };
  const epmd = startDaemon("epmd", [], epmdEnv);
  return {
    folder,
    // The Erlang cookie is put into HOME.
    env: { ...epmdEnv, HOME: folder },
    async [Symbol.asyncDispose]() {
      await epmd[Symbol.asyncDispose]();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** @param first The node of the cluster that it is to join. */
async function makeNode(
  home: Home,
  first: string | undefined,
  statisticsInterval: number,
): Promise<RabbitmqNode> {
  const name = `nuropb-test-${crypto.randomUUID().slice(0, 8)}@localhost`;
  const folder = join(home.folder, name);
  const [port, managementPort, distributionPort] = await freePorts(3);
  await mkdir(folder);
  await writeFile(
    join(folder, "rabbitmq.conf"),
    configuration(port, managementPort, first, statisticsInterval),
  );
  await writeFile(join(folder, "enabled_plugins"), "[rabbitmq_management].\n");
  const env = { ...home.env, ...environment(folder, name, distributionPort) };

  let server: Daemon | undefined;
  const end = async () => {
    await server?.[Symbol.asyncDispose]();
    server = undefined;
  };
  const managementUrl = `http://127.0.0.1:${managementPort}`;
  return {
    ...brokerAt(`amqp://guest:guest@127.0.0.1:${port}`, managementUrl),
    name,
    port,
    managementUrl,
    async start() {
      for (let attempt = 1;; attempt++) {
        const current = server ??= startDaemon(`${SCRIPTS}/rabbitmq-server`, [], env);
        let ended = false;
        void current.ended.then(() => ended = true);
        // The listener for AMQP is the last thing that the server opens.
        await until(async () => ended || await accepts(port));
        if (!ended) return;
        await end();
        // Another test may have had one of its ports for a moment, as they were free while the server was away.
        if (attempt === START_ATTEMPTS) {
          throw new Error(`RabbitMQ did not start:\n${current.output().slice(0, 4_000)}`);
        }
      }
    },
    kill: end,
    signal: (signal) => server?.signal(signal),
    control: (...args) => control(args, env),
    [Symbol.asyncDispose]: end,
  };
}

function configuration(
  port: number,
  managementPort: number,
  first: string | undefined,
  statisticsInterval: number,
): string {
  const joins = first === undefined ? "" : `
cluster_formation.peer_discovery_backend = classic_config
cluster_formation.classic_config.nodes.1 = ${first}
`;
  return `
listeners.tcp.1 = 127.0.0.1:${port}
management.tcp.ip = 127.0.0.1
management.tcp.port = ${managementPort}
vm_memory_high_watermark.absolute = 1GB
disk_free_limit.absolute = 64MB
collect_statistics_interval = ${statisticsInterval}
log.console = true
log.console.level = warning
log.file = false
${joins}`;
}

function environment(folder: string, name: string, distributionPort: number): Record<string, string> {
  return {
    // Makes the script become the server, in place of waiting for it as a child.
    RUNNING_UNDER_SYSTEMD: "true",
    RABBITMQ_NODENAME: name,
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

function control(args: readonly string[], env: Readonly<Record<string, string>>): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = { env: { ...process.env, ...env }, timeout: START_TIMEOUT_MS };
    execFile(`${SCRIPTS}/rabbitmqctl`, [...args], options, (error, output, errors) => {
      if (error === null) resolve(output);
      else reject(new Error(`rabbitmqctl ${args.join(" ")} failed: ${errors}${output}`, { cause: error }));
    });
  });
}

async function until(holds: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (!await holds()) {
    if (Date.now() > deadline) throw new Error(`RabbitMQ was not ready within ${START_TIMEOUT_MS / 1000} s`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
