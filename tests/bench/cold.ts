/**
 * Cold calls: from `connect()` to the first answer, by a new process, over a broker that seems far away.
 *
 * @module
 */
import { type Contestant, title } from "./contestants.ts";
import { startDelayProxy } from "./delay_proxy.ts";
import { ProgramProcess } from "./process.ts";
import { settingsFor, type Watcher } from "./run.ts";
import type { Stage } from "./stage.ts";
import { median } from "./statistics.ts";

/** What `--only` calls this part. */
export const COLD = "cold";

/** What it costs to reach the broker and come back, in ms. */
export const ROUND_TRIP = 50;

const SIZE = 60;

/** All cold calls of one contestant. */
export interface ColdRow {
  readonly contestant: string;
  readonly samples: { readonly elapsed: number; readonly roundTrips: number }[];
}

/** Measures everyone's cold call, in turn. */
export async function runCold(stage: Stage, rounds: number, watcher: Watcher): Promise<ColdRow[]> {
  const rows: ColdRow[] = stage.contestants.map((contestant) => ({
    contestant: title(contestant),
    samples: [],
  }));
  for (let round = 1; round <= rounds; round++) {
    for (const [index, contestant] of stage.contestants.entries()) {
      const what = `${COLD}, round ${round}: ${title(contestant)}`;
      try {
        rows[index]?.samples.push(await watcher.during(what, callOnce(contestant, stage)));
      } catch (error) {
        watcher.failed(what, error);
      }
    }
  }
  return rows.filter(({ samples }) => samples.length > 0);
}

/** The table of it. */
export function coldTable(rows: readonly ColdRow[]): string[] {
  return [
    `${"".padEnd(48)}round trips  median ms`,
    ...rows.map(({ contestant, samples }) => {
      const trips = median(samples.map(({ roundTrips }) => roundTrips));
      const elapsed = median(samples.map((sample) => sample.elapsed));
      return `  ${contestant.padEnd(46)}${`${trips}`.padStart(11)}${elapsed.toFixed(0).padStart(11)}`;
    }),
  ];
}

async function callOnce(contestant: Contestant, stage: Stage): Promise<ColdRow["samples"][number]> {
  await using owned = new AsyncDisposableStack();
  const vhost = contestant.broker === "nats"
    ? undefined
    : owned.use(await stage.broker.createVhost(`bench-${crypto.randomUUID().slice(0, 8)}`));
  const url = vhost?.url ?? stage.nats ?? "";
  const command = stage.commandOf(contestant);
  const start = async (role: string) =>
    owned.use(await ProgramProcess.start(`${title(contestant)} ${role}`, command));
  const service = await start("service");
  await service.ask({ ask: "serve", settings: settingsFor(stage, url) });
  const proxy = owned.use(await startDelayProxy(url, ROUND_TRIP / 2));
  const caller = await start("caller");
  const settings = settingsFor(stage, proxy.through(url), { cold: true });
  const { elapsed } = await caller.ask({ ask: "cold", settings, size: SIZE });
  return { elapsed, roundTrips: proxy.roundTrips };
}
