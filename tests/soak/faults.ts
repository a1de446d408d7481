/**
 * The faults of a soak: what each does, to whom, and for how long, as the seed decides.
 *
 * @module
 */
import { Management } from "../conformance/management.ts";
import type { RabbitmqNode } from "../support/rabbitmq.ts";
import type { FaultProxy } from "../faults/fault_proxy.ts";
import type { Ledger } from "./ledger.ts";
import type { Random } from "./random.ts";
import type { WorkerProcess } from "./worker_process.ts";

/** What faults can be done to. */
export interface Stage {
  readonly broker: RabbitmqNode;
  readonly vhost: string;
  readonly workers: readonly WorkerProcess[];
  readonly ledger: Ledger;
}

/** A fault that was decided on. */
export interface PlannedFault {
  readonly kind: string;
  /** What happens to whom, for the reader. */
  readonly text: string;
  /** Whose links it breaks. */
  readonly affected: readonly WorkerProcess[];
  /** Does it, and resolves with the time of its end, in ms since the epoch. */
  readonly run: () => Promise<number>;
}

type Plan = (stage: Stage, random: Random) => Omit<PlannedFault, "kind">;

/** Longer than two heartbeats, so that it is noticed. */
const SILENCE_MS = [4_500, 8_000] as const;

/** How long the management API may take to know of a connection. */
const MANAGEMENT_PATIENCE_MS = 10_000;

const PLANS: Readonly<Record<string, Plan>> = {
  drop: onLinks("connection dropped", (proxy) => proxy.drop()),
  reset: onLinks("connection reset", (proxy) => proxy.reset()),
  cut: (stage, random) => {
    const bytes = random.between(1, 4_000);
    const direction = random.pick(["toServer", "toClient"] as const);
    return onLinks(`cut ${direction} after ${bytes} bytes`, (proxy) => proxy.cutAfter(bytes, direction))(
      stage,
      random,
    );
  },
  refused: lasting("connections refused", [500, 6_000], async (proxy) => {
    await proxy.refuse(true);
    proxy.reset();
  }, (proxy) => proxy.refuse(false)),
  "half-open": (stage, random) => {
    const ways = random.pick(["toServer", "toClient", "both ways"] as const);
    const direction = ways === "both ways" ? undefined : ways;
    return lasting(
      `half-open ${ways}`,
      SILENCE_MS,
      (proxy) => proxy.halfOpen(true, direction),
      (proxy) => proxy.halfOpen(false),
    )(stage, random);
  },
  delay: (stage, random) => {
    const delay = random.between(50, 500);
    return lasting(
      `delay of ${delay} ms`,
      [2_000, 6_000],
      (proxy) => proxy.delay(delay),
      (proxy) => proxy.delay(0),
    )(stage, random);
  },
  throttle: (stage, random) => {
    const rate = random.between(5, 100) * 1_000;
    return lasting(
      `throttle to ${rate} bytes/s`,
      [2_000, 6_000],
      (proxy) => proxy.throttle(rate),
      (proxy) => proxy.throttle(),
    )(stage, random);
  },
  closed: ({ broker, vhost, workers }, random) => {
    const worker = random.pick(workers);
    return {
      text: `the broker closes the connection of ${worker.name}`,
      affected: [worker],
      run: async () => {
        await closeConnection(new Management(broker.managementUrl, vhost), `soak-${worker.name}`);
        return Date.now();
      },
    };
  },
  cancelled: ({ broker, vhost, workers }, random) => {
    const worker = random.pick(workers);
    return {
      text: `a queue of ${worker.name} is deleted`,
      affected: [worker],
      run: async () => {
        const management = new Management(broker.managementUrl, vhost);
        await management.call("DELETE", management.path("queues", `nuropb-probe-${worker.name}-sq`));
        return Date.now();
      },
    };
  },
  killed: onService("killed and started again", (service) => service.kill()),
  terminated: onService("told to end and started again", (service) => service.close("SIGTERM")),
  "broker stopped": onBroker("stopped", [1_000, 8_000], (broker) => {
    broker.signal("SIGSTOP");
    return () => broker.signal("SIGCONT");
  }),
  "broker killed": onBroker("killed and started again after", [0, 3_000], async (broker, ledger) => {
    await broker.kill();
    ledger.brokerKilled();
    return () => broker.start();
  }),
  "memory alarm": onBroker("without memory", [1_000, 6_000], async (broker) => {
    await broker.control("set_vm_memory_high_watermark", "absolute", "1MB");
    return () => broker.control("set_vm_memory_high_watermark", "absolute", "1GB");
  }),
};

/** The kinds of faults. */
export const FAULT_KINDS: readonly string[] = Object.keys(PLANS);

/** Which faults cannot be done at the same time as another of their group: `alone` with none at all. */
function groupOf(kind: string): "alone" | "service" | "broker" | undefined {
  switch (kind) {
    // These go through the management API or its command line.
    case "closed":
    case "cancelled":
    case "memory alarm":
      return "alone";
    case "killed":
    case "terminated":
      return "service";
    case "broker stopped":
    case "broker killed":
      return "broker";
    default:
      return undefined;
  }
}

/** Whether two faults can be done at the same time. */
export function canMeet(first: string, second: string): boolean {
  const groups = [groupOf(first), groupOf(second)];
  return !groups.includes("alone") && (groups[0] === undefined || groups[0] !== groups[1]);
}

/** Decides on a fault. */
export function planFault(kind: string, stage: Stage, random: Random): PlannedFault {
  const plan = PLANS[kind];
  if (plan === undefined) throw new RangeError(`There is no fault ${kind}`);
  return { kind, ...plan(stage, random) };
}

/** Decides on a fault that begins while another is under way. */
export function planBoth(first: PlannedFault, second: PlannedFault, random: Random): PlannedFault {
  const later = random.between(0, 1_500);
  return {
    kind: "two at once",
    text: `${first.text}, and ${seconds(later)} later ${second.text}`,
    affected: [...new Set([...first.affected, ...second.affected])],
    run: async () => Math.max(...await Promise.all([first.run(), pause(later).then(second.run)])),
  };
}

/** What is over as soon as it is done, to one link or several. */
function onLinks(text: string, act: (proxy: FaultProxy) => void | Promise<void>): Plan {
  return ({ workers }, random) => {
    const affected = someOf(workers, random);
    return {
      text: `${text}: ${namesOf(affected)}`,
      affected,
      run: async () => {
        await Promise.all(affected.map(({ proxy }) => act(proxy)));
        return Date.now();
      },
    };
  };
}

/** What lasts, on one link or several. */
function lasting(
  text: string,
  range: readonly [number, number],
  begin: (proxy: FaultProxy) => void | Promise<void>,
  end: (proxy: FaultProxy) => void | Promise<void>,
): Plan {
  return ({ workers }, random) => {
    const affected = someOf(workers, random);
    const milliseconds = random.between(...range);
    return {
      text: `${text} for ${seconds(milliseconds)}: ${namesOf(affected)}`,
      affected,
      run: async () => {
        await Promise.all(affected.map(({ proxy }) => begin(proxy)));
        await pause(milliseconds);
        await Promise.all(affected.map(({ proxy }) => end(proxy)));
        return Date.now();
      },
    };
  };
}

/**
 * What ends an instance of the service, never the first of several, whose memory is to be seen to the end. Recovery
 * counts from when the next one's program runs.
 */
function onService(text: string, end: (service: WorkerProcess) => Promise<void>): Plan {
  return ({ workers }, random) => {
    const services = workers.filter(({ plan }) => plan.role === "service");
    const service = random.pick(services.length > 1 ? services.slice(1) : services);
    const seed = random.between(1, 1_000_000);
    return {
      text: `${service.name} ${text}`,
      affected: [service],
      run: async () => {
        await end(service);
        return await service.start(seed);
      },
    };
  };
}

/** What befalls the broker, and so everyone. */
function onBroker(
  text: string,
  range: readonly [number, number],
  begin: (broker: RabbitmqNode, ledger: Ledger) => (() => unknown) | Promise<() => unknown>,
): Plan {
  return ({ broker, workers, ledger }, random) => {
    const milliseconds = random.between(...range);
    return {
      text: `the broker ${text} ${seconds(milliseconds)}`,
      affected: workers,
      run: async () => {
        const end = await begin(broker, ledger);
        await pause(milliseconds);
        await end();
        return Date.now();
      },
    };
  };
}

/** Closes a connection by its name, as soon as the API knows it. */
async function closeConnection(management: Management, name: string): Promise<void> {
  const deadline = Date.now() + MANAGEMENT_PATIENCE_MS;
  while (Date.now() < deadline) {
    const connections = await management.call<{ name: string; user_provided_name?: string }[]>(
      "GET",
      "connections",
    ) ?? [];
    const own = connections.filter((connection) => connection.user_provided_name === name);
    for (const connection of own) {
      await management.call("DELETE", `connections/${encodeURIComponent(connection.name)}`);
    }
    if (own.length > 0) return;
    await pause(200);
  }
  throw new Error(`RabbitMQ knows of no connection ${name}`);
}

/** One of them mostly, else several. */
function someOf(workers: readonly WorkerProcess[], random: Random): WorkerProcess[] {
  const count = random.next() < 0.7 ? 1 : random.between(2, workers.length);
  return random.shuffle(workers).slice(0, count);
}

function namesOf(workers: readonly WorkerProcess[]): string {
  return workers.map(({ name }) => name).toSorted().join(", ");
}

function seconds(milliseconds: number): string {
  return `${(milliseconds / 1_000).toFixed(1)} s`;
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
