/**
 * The benchmark's command line.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { type Contestant, CONTESTANTS } from "./contestants.ts";
import type { Timing } from "./run.ts";
import { COLD } from "./cold.ts";
import { contestantsOf, QUICK, type Scenario, SCENARIOS } from "./scenarios.ts";

/** What the command line asks for. */
export interface Wanted {
  readonly scenarios: readonly Scenario[];
  readonly cold: boolean;
  readonly contestants: readonly Contestant[];
  readonly timing: Timing;
  /** Whether nothing was left out. */
  readonly full: boolean;
}

const QUICK_NAMES: readonly string[] = ["ours", "limit", "limit-wire"];
const QUICK_TIMING: Timing = { rounds: 3, turns: 2, opening: 1_000, warmUp: 150, duration: 300 };
const FULL_TIMING: Timing = { rounds: 3, turns: 3, opening: 1_000, warmUp: 200, duration: 450 };

/** Reads the command line; throws a TypeError that says what is wrong with it. */
export function readCommandLine(): Wanted {
  const { values } = parseArgs({
    options: {
      quick: { type: "boolean", default: false },
      only: { type: "string", default: "" },
      runtime: { type: "string", default: "" },
      rounds: { type: "string" },
      seconds: { type: "string" },
    },
  });
  const { quick } = values;
  const terms = split(values.only);
  const known = new Set([...SCENARIOS, ...CONTESTANTS].map(({ name }) => name).concat(COLD));
  check("--only", terms, known);
  const places = split(values.runtime);
  check("--runtime", places, new Set(CONTESTANTS.map(({ place }) => place)));

  const named = SCENARIOS.filter(({ name }) => terms.includes(name));
  const cold = terms.includes(COLD);
  const names = CONTESTANTS.map(({ name }) => name).filter((name) => terms.includes(name));
  const scenarios = quick ? [QUICK] : named.length > 0 || cold ? named : SCENARIOS;
  const contestants = CONTESTANTS.filter(({ name, place }) =>
    (names.length === 0 ? !quick || QUICK_NAMES.includes(name) : names.includes(name)) &&
    (places.length === 0 ? !quick || place !== "node24" : places.includes(place))
  );
  const base = quick ? QUICK_TIMING : FULL_TIMING;
  const rounds = readNumber("--rounds", values.rounds, base.rounds);
  const duration = readNumber("--seconds", values.seconds, base.duration / 1_000) * 1_000;
  const withCold = !quick && (cold || named.length === 0);
  return {
    scenarios,
    cold: withCold,
    contestants: contestants.filter((contestant) =>
      withCold || scenarios.some((scenario) => contestantsOf(scenario).includes(contestant))
    ),
    timing: { ...base, rounds, duration },
    full: !quick && terms.length === 0 && places.length === 0,
  };
}

function split(list: string): string[] {
  return list.split(",").filter((part) => part !== "");
}

function readNumber(option: string, given: string | undefined, usual: number): number {
  const value = Number(given ?? usual);
  if (value > 0 && (option === "--seconds" || Number.isInteger(value))) return value;
  throw new TypeError(`${option} must be a number above 0, and was ${given}`);
}

function check(option: string, given: readonly string[], known: ReadonlySet<string>): void {
  for (const name of given) {
    if (!known.has(name)) {
      throw new TypeError(`${option} must be of ${[...known].join(",")}, and was ${name}`);
    }
  }
}
