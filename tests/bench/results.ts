/**
 * The results of a run, as they are kept.
 *
 * @module
 */
import { cpus, release, totalmem, type as system } from "node:os";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { run } from "../support/processes.ts";
import { which } from "../support/runtimes.ts";
import type { ColdRow } from "./cold.ts";
import { type Contestant, title } from "./contestants.ts";
import type { Checked } from "./must_hold.ts";
import type { Row, Sample, Timing } from "./run.ts";
import type { Stage } from "./stage.ts";
import { middle } from "./table.ts";

/** Where and with what the figures were taken. */
export interface Circumstances {
  readonly date: string;
  readonly command: string;
  readonly machine: {
    readonly processor: string;
    readonly cores: number;
    readonly memoryGiB: number;
    readonly system: string;
  };
  readonly versions: Readonly<Record<string, string>>;
  readonly timing: Timing;
}

/** All that a run gave. */
export interface Results extends Circumstances {
  readonly rows: readonly (Row & { readonly median: Omit<Sample, "turn"> })[];
  readonly cold: readonly ColdRow[];
  readonly mustHold: readonly Checked[];
}

/** Puts them together. */
export function resultsOf(
  circumstances: Circumstances,
  rows: readonly Row[],
  cold: readonly ColdRow[],
  mustHold: readonly Checked[],
): Results {
  return { ...circumstances, rows: rows.map((row) => ({ ...row, median: middle(row) })), cold, mustHold };
}

/** Looks at the machine and at what runs on it. */
export async function circumstancesOf(
  root: string,
  stage: Stage,
  timing: Timing,
  args: readonly string[],
): Promise<Circumstances> {
  const [processor] = cpus();
  return {
    date: new Date().toISOString(),
    command: ["deno task bench", ...args].join(" "),
    machine: {
      processor: processor?.model ?? "unknown",
      cores: cpus().length,
      memoryGiB: Math.round(totalmem() / 2 ** 30),
      system: `${system()} ${release()}`,
    },
    versions: await versionsOf(root, stage),
    timing,
  };
}

async function versionsOf(root: string, stage: Stage): Promise<Record<string, string>> {
  const versions: Record<string, string> = {};
  const perPlace = new Map<string, Contestant>(stage.contestants.map((each) => [each.place, each]));
  for (const [place, contestant] of perPlace) {
    versions[place] = await versionOf(stage.commandOf(contestant).command);
  }
  const server = await which("nats-server");
  if (server !== undefined) versions["nats-server"] = await versionOf(server);
  const rabbitmq = await rabbitmqVersion(stage);
  if (rabbitmq !== undefined) versions["rabbitmq"] = rabbitmq;
  for (const manifest of ["package.json", "tests/bench/peers/package.json"]) {
    const { dependencies } = JSON.parse(await readFile(join(root, manifest), "utf8"));
    Object.assign(versions, dependencies);
  }
  if (stage.contestants.some((contestant) => title(contestant) === "nuropb-python")) {
    versions["nuropb"] = NUROPB_VERSION;
  }
  return versions;
}

/** The first version in what a command says of itself. */
async function versionOf(command: string): Promise<string> {
  const { output } = await run(command, ["--version"]);
  return /\d+(\.\d+)+/.exec(output)?.[0] ?? "unknown";
}

async function rabbitmqVersion({ broker }: Stage): Promise<string | undefined> {
  if (broker.managementUrl === undefined) return undefined;
  const headers = { authorization: `Basic ${btoa("guest:guest")}` };
  const response = await fetch(`${broker.managementUrl}/api/overview`, { headers });
  const { rabbitmq_version: version }: { rabbitmq_version?: string } = await response.json();
  return version;
}

/** What `tests/support/python.ts` installs. */
const NUROPB_VERSION = "0.1.8";
