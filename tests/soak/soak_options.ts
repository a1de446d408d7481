/**
 * The command line of the soak.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { type RuntimeName, RUNTIMES } from "../support/runtimes.ts";
import { FAULT_KINDS } from "./faults.ts";

/** What the command line asks for. */
export interface SoakOptions {
  readonly minutes: number;
  readonly seed: number;
  /** The processes take these in turn: first the services, then the callers. */
  readonly runtimes: readonly RuntimeName[];
  /** The kinds of faults to choose from. */
  readonly faults: readonly string[];
  /** Messages a second, of all callers together. */
  readonly rate: number;
  readonly services: number;
  readonly callers: number;
  /** Where to write the ledger as JSON. */
  readonly json: string | undefined;
}

/** Reads the command line; throws a TypeError that says what is wrong with it. */
export function readSoakOptions(): SoakOptions {
  const { values } = parseArgs({
    options: {
      minutes: { type: "string", default: "3" },
      seed: { type: "string", default: `${crypto.getRandomValues(new Uint32Array(1))[0]}` },
      runtime: { type: "string", default: "deno,bun,node20" },
      faults: { type: "string", default: FAULT_KINDS.join(",") },
      rate: { type: "string", default: "450" },
      services: { type: "string", default: "2" },
      callers: { type: "string", default: "2" },
      json: { type: "string" },
    },
  });
  const number = (name: "minutes" | "seed" | "rate" | "services" | "callers", minimum: number) => {
    const value = Number(values[name]);
    if (value >= minimum) return value;
    throw new TypeError(`--${name} must be ${minimum} or more, and was ${values[name]}`);
  };
  const runtimes = values.runtime.split(",").map((name) => {
    const known = RUNTIMES.find((runtime) => runtime === name);
    if (known !== undefined) return known;
    throw new TypeError(`--runtime must be of ${RUNTIMES.join(",")}, and was ${name}`);
  });
  const faults = values.faults.split(",").filter((kind) => kind !== "");
  for (const kind of faults) {
    if (FAULT_KINDS.includes(kind)) continue;
    throw new TypeError(`--faults must be of ${FAULT_KINDS.join(",")}, and was ${kind}`);
  }
  return {
    faults,
    minutes: number("minutes", 0.1),
    seed: number("seed", 0),
    runtimes,
    rate: number("rate", 1),
    services: number("services", 1),
    callers: number("callers", 1),
    json: values.json,
  };
}
