/**
 * What is measured, as data.
 *
 * @module
 */
import { type Contestant, CONTESTANTS, type Place } from "./contestants.ts";
import type { Load } from "./load.ts";

/** One thing to be measured, within a variant. */
export type LoadShape = Pick<Load, "action" | "inFlight" | "size">;

/** Processes set up in one way, and what is done with them. */
export interface Variant {
  /** What tells it from other variants; empty where there is one. */
  readonly label: string;
  /** How many processes serve. None: caller and service share a process, and a broker in it. */
  readonly instances: number;
  readonly services: number;
  readonly subscribers: number;
  readonly loads: readonly LoadShape[];
}

/** One part of the benchmark. */
export interface Scenario {
  readonly name: string;
  readonly description: string;
  readonly places: readonly Place[];
  /** Which of those who can do all of it take part; all of them when left out. */
  readonly only?: readonly string[];
  readonly variants: readonly Variant[];
}

const SMALL = 60;
const MAIN_PLACES: readonly Place[] = ["node20", "deno", "bun", "python"];

function variant(loads: readonly LoadShape[], rest: Partial<Variant> = {}): Variant {
  return { label: "", instances: 1, services: 1, subscribers: 0, loads, ...rest };
}

function load(action: string, inFlight: number, size = SMALL): LoadShape {
  return { action, inFlight, size };
}

/** What `--quick` measures. */
export const QUICK: Scenario = {
  name: "requests",
  description: `Requests: an echo of ${SMALL} bytes of JSON`,
  places: [...MAIN_PLACES, "node24"],
  variants: [variant([1, 32, 256].map((inFlight) => load("request", inFlight)))],
};

/** All of it. */
export const SCENARIOS: readonly Scenario[] = [
  { ...QUICK, variants: [variant([1, 32, 256, 2048].map((inFlight) => load("request", inFlight)))] },
  {
    name: "payloads",
    description: "Payloads: echoes of JSON of several sizes",
    places: MAIN_PLACES,
    variants: [
      variant([load("request", 32, 100), load("request", 32, 10_000), load("request", 4, 1_000_000)]),
    ],
  },
  {
    name: "commands",
    description: "Commands: persistent, each confirmed by the broker, and consumed",
    places: MAIN_PLACES,
    variants: [variant([load("command", 256)])],
  },
  {
    name: "events",
    description: "Events: persistent, each confirmed, until all subscribers have them; deliveries a second",
    places: MAIN_PLACES,
    variants: [1, 10, 100].map((subscribers) =>
      variant([load("event", 256)], { label: `${subscribers} subscribers`, subscribers })
    ),
  },
  {
    name: "encrypted",
    description: "Encrypted requests beside plain ones",
    places: MAIN_PLACES,
    variants: [
      variant([load("request", 1), load("encrypted", 1), load("request", 256), load("encrypted", 256)]),
    ],
  },
  {
    name: "claims",
    description: "Requests with a bearer token (ES256, the key is known) beside ones without",
    places: MAIN_PLACES,
    variants: [variant([load("request", 1), load("claims", 1), load("request", 256), load("claims", 256)])],
  },
  {
    name: "memory",
    description: "Requests over memory:, in one process",
    places: MAIN_PLACES,
    only: ["ours"],
    variants: [variant([1, 32, 256].map((inFlight) => load("request", inFlight)), { instances: 0 })],
  },
  {
    name: "instances",
    description: "Several processes that host one service",
    places: MAIN_PLACES,
    only: ["ours"],
    variants: [1, 2, 4].map((instances) =>
      variant([load("request", 256)], { label: `${instances} instances`, instances })
    ),
  },
  {
    name: "services",
    description: "Services on one mesh, hosted by one process: one of them called, and all in turn",
    places: MAIN_PLACES,
    // A thousand queues of each of the others would leave the broker without memory.
    only: ["ours"],
    variants: [1, 1000].map((services) =>
      variant([load("request", 256), load("any", 256)], { label: `${services} services`, services })
    ),
  },
];

/** Those who take part in a scenario. */
export function contestantsOf({ places, only, variants }: Scenario): Contestant[] {
  const actions = variants.flatMap(({ loads }) => loads.map(({ action }) => action));
  return CONTESTANTS.filter(({ name, place, actions: able }) =>
    places.includes(place) && (only?.includes(name) ?? true) &&
    actions.every((action) => able.includes(action))
  );
}
