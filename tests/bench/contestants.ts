/**
 * Who is measured, as data.
 *
 * @module
 */
import type { RuntimeName } from "../support/runtimes.ts";

/** Where a program runs. */
export type Place = RuntimeName | "python";

/** One program on one runtime. */
export interface Contestant {
  /** The program. */
  readonly name: string;
  readonly place: Place;
  /** From `tests/bench/`. */
  readonly file: string;
  /** Whether its packages are those of `peers/package.json`. */
  readonly peer: boolean;
  readonly broker: "rabbitmq" | "nats";
  /** What its callers can do. */
  readonly actions: readonly string[];
}

/** The runtimes that ours and the limit program are measured on. Peers run on the first Node. */
export const PLACES = ["node20", "deno", "bun", "node24"] as const satisfies readonly RuntimeName[];

const PEER_PLACE: RuntimeName = PLACES[0];

const peer = { place: PEER_PLACE, peer: true, broker: "rabbitmq", actions: ["request"] } as const;

/** Each beside the one that it is compared with. */
export const CONTESTANTS: readonly Contestant[] = [
  ...PLACES.flatMap((place): Contestant[] => [
    {
      name: "ours",
      place,
      file: "ours.ts",
      peer: false,
      broker: "rabbitmq",
      actions: ["request", "any", "encrypted", "claims", "command", "event"],
    },
    {
      name: "limit",
      place,
      file: "limit.ts",
      peer: false,
      broker: "rabbitmq",
      actions: ["request", "command", "event"],
    },
    {
      name: "limit-wire",
      place,
      file: "limit_wire.ts",
      peer: false,
      broker: "rabbitmq",
      actions: ["request", "command"],
    },
  ]),
  {
    ...peer,
    name: "nuropb-python",
    place: "python",
    file: "peers/nuropb_python.py",
    actions: ["request", "encrypted"],
  },
  { ...peer, name: "amqp-client", file: "peers/amqp_client.ts" },
  { ...peer, name: "rabbitmq-client", file: "peers/rabbitmq_client.ts" },
  { ...peer, name: "amqplib", file: "peers/amqplib.ts" },
  { ...peer, name: "moleculer", file: "peers/moleculer.ts" },
  { ...peer, name: "nestjs", file: "peers/nestjs.ts" },
  { ...peer, name: "nats", file: "peers/nats.ts", broker: "nats" },
];

/** How it is called in tables, charts and on the command line. */
export function title({ name, place, peer: isPeer }: Contestant): string {
  return isPeer || place === "python" ? name : `${name} ${place}`;
}
