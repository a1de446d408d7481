/**
 * What must hold of the figures of one run.
 *
 * @module
 */
import type { ColdRow } from "./cold.ts";
import type { Row } from "./run.ts";
import { median } from "./statistics.ts";
import { middle, ratio } from "./table.ts";

/** One thing that must hold, and what was measured. */
export interface Checked {
  readonly what: string;
  /** Undefined where it was not measured. */
  readonly figure: number | undefined;
  readonly atLeast?: number;
  readonly atMost?: number;
  readonly holds: boolean;
}

/** How much of the limit program on the same runtime a request must reach. */
const OF_LIMIT: Readonly<Record<string, number>> = { node20: 0.85, node24: 0.85, deno: 0.7, bun: 0.7 };
/** And of the same program when it speaks NuroPb's protocol, whose headers alone cost a part of the limit. */
const OF_WIRE_LIMIT = 0.85;
const COMMANDS_OF_LIMIT = 0.85;
const COLD_ROUND_TRIPS = 2;
const MORE_COST = 1.2;
/** How many times as many requests as these, at 256 in flight. */
const TIMES_PEER: Readonly<Record<string, number>> = { "nuropb-python": 3.5, "amqp-client": 1.4, nats: 0.9 };
const LATENCY_OF_PYTHON = 0.7;

/** Checks all of it. */
export function checkAll(rows: readonly Row[], cold: readonly ColdRow[]): Checked[] {
  const find = (scenario: string, contestant: string, inFlight: number, variant = "") =>
    rows.find((row) =>
      row.scenario === scenario && row.contestant === contestant && row.load.inFlight === inFlight &&
      row.variant === variant && row.load.action !== "any"
    );
  const request = (contestant: string, inFlight: number) => find("requests", contestant, inFlight);
  const quotient = (one: Row | undefined, other: Row | undefined) =>
    one === undefined || other === undefined ? undefined : ratio(one, other);

  const checks: Checked[] = [];
  for (const [runtime, bound] of Object.entries(OF_LIMIT)) {
    for (const inFlight of [1, 32, 256]) {
      const figure = quotient(request(`ours ${runtime}`, inFlight), request(`limit ${runtime}`, inFlight));
      checks.push(
        atLeast(`requests on ${runtime}, ${inFlight} in flight: of the limit program`, figure, bound),
      );
    }
  }
  for (const runtime of ["node20", "deno", "bun"]) {
    for (const inFlight of [1, 32, 256]) {
      const figure = quotient(
        request(`ours ${runtime}`, inFlight),
        request(`limit-wire ${runtime}`, inFlight),
      );
      const what = `requests on ${runtime}, ${inFlight} in flight: of the limit program with the same wire`;
      checks.push(atLeast(what, figure, OF_WIRE_LIMIT));
    }
  }
  for (const [peer, bound] of Object.entries(TIMES_PEER)) {
    const figure = quotient(request("ours node20", 256), request(peer, 256));
    checks.push(atLeast(`requests on node20, 256 in flight: times ${peer}`, figure, bound));
  }
  const [ours, python] = [request("ours node20", 1), request("nuropb-python", 1)];
  const latency = ours && python && middle(ours).p50 / middle(python).p50;
  checks.push(
    atMost("requests on node20, 1 in flight: median latency of nuropb-python's", latency, LATENCY_OF_PYTHON),
  );
  for (const runtime of ["node20", "deno", "bun"]) {
    const trips = cold.find(({ contestant }) => contestant === `ours ${runtime}`)?.samples
      .map(({ roundTrips }) => roundTrips);
    checks.push(atMost(`cold call on ${runtime}: round trips`, trips && median(trips), COLD_ROUND_TRIPS));
  }
  for (const runtime of ["node20", "deno", "bun"]) {
    const figure = quotient(
      find("commands", `ours ${runtime}`, 256),
      find("commands", `limit ${runtime}`, 256),
    );
    checks.push(
      atLeast(
        `commands on ${runtime}, 256 at a time: of the payload alone by hand`,
        figure,
        COMMANDS_OF_LIMIT,
      ),
    );
    const sameWire = quotient(
      find("commands", `ours ${runtime}`, 256),
      find("commands", `limit-wire ${runtime}`, 256),
    );
    checks.push(
      atLeast(`commands on ${runtime}, 256 at a time: of the same by hand`, sameWire, COMMANDS_OF_LIMIT),
    );
  }
  for (const runtime of ["node20", "deno", "bun"]) {
    const name = `ours ${runtime}`;
    const flights = quotient(request(name, 256), request(name, 2048));
    checks.push(
      atMost(`cost of a request on ${runtime}, 2048 in flight: times that at 256`, flights, MORE_COST),
    );
    const services = quotient(
      find("services", name, 256, "1 services"),
      find("services", name, 256, "1000 services"),
    );
    checks.push(
      atMost(
        `cost of a request on ${runtime}, 1000 services there: times that with one`,
        services,
        MORE_COST,
      ),
    );
  }
  return checks;
}

/** One line for each. */
export function checkTable(checks: readonly Checked[]): string[] {
  return checks.map(({ what, figure, atLeast, atMost, holds }) => {
    const bound = atLeast === undefined ? `at most ${atMost}` : `at least ${atLeast}`;
    const verdict = figure === undefined ? "not measured" : holds ? "ok" : "FAILED";
    return `${verdict.padEnd(13)}${what.padEnd(76)}${
      figure?.toFixed(2).padStart(7) ?? "".padStart(7)
    }  ${bound}`;
  });
}

function atLeast(what: string, figure: number | undefined, bound: number): Checked {
  return { what, figure, atLeast: bound, holds: isMeasured(figure) && figure >= bound };
}

function atMost(what: string, figure: number | undefined, bound: number): Checked {
  return { what, figure, atMost: bound, holds: isMeasured(figure) && figure <= bound };
}

/** A contestant that came to nothing within its time gives no figure. */
function isMeasured(figure: number | undefined): figure is number {
  return Number.isFinite(figure);
}
