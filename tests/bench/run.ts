/**
 * Runs scenarios: in each round every contestant's processes are started anew, and then each load is put on one
 * after the other, in several short turns, so that what else happens on the machine meets all of them alike.
 *
 * @module
 */
import { type Contestant, title } from "./contestants.ts";
import type { Load } from "./load.ts";
import { ProgramProcess } from "./process.ts";
import type { Settings } from "./program.ts";
import type { LoadShape, Scenario, Variant } from "./scenarios.ts";
import { contestantsOf } from "./scenarios.ts";
import type { Stage } from "./stage.ts";

/** How long everything takes. */
export interface Timing {
  readonly rounds: number;
  /** How often each load is put on every contestant in a round. */
  readonly turns: number;
  /** Once for each caller, in ms. */
  readonly opening: number;
  /** Before each measurement, in ms. */
  readonly warmUp: number;
  /** Of each measurement, in ms. */
  readonly duration: number;
}

/** What one measurement gave. */
export interface Sample {
  /** Which one of all turns: what others gave in the same one was measured next to it. */
  readonly turn: number;
  readonly rate: number;
  readonly p50: number;
  readonly p99: number;
  /** The processor time of caller and services for one action, in µs. */
  readonly cpu: number;
}

/** All measurements of one contestant under one load. */
export interface Row {
  readonly scenario: string;
  readonly variant: string;
  readonly load: LoadShape;
  readonly contestant: string;
  readonly samples: Sample[];
}

/** How many messages a service handles at once, everywhere: as many as callers have under way, so that none queue. */
export const CONCURRENCY = 2_048;

/** Told what goes on. */
export interface Watcher {
  during<T>(text: string, work: Promise<T>): Promise<T>;
  failed(what: string, error: unknown): void;
}

/** The processes of one contestant. */
interface Team extends AsyncDisposable {
  readonly contestant: Contestant;
  readonly services: readonly ProgramProcess[];
  readonly caller: ProgramProcess;
  /** Events so far. */
  published: number;
}

/** Measures a scenario. A contestant that fails is left out of the rest of its round. */
export async function runScenario(
  scenario: Scenario,
  stage: Stage,
  timing: Timing,
  watcher: Watcher,
): Promise<Row[]> {
  const rows: Row[] = [];
  const taking = contestantsOf(scenario).filter((contestant) => stage.contestants.includes(contestant));
  for (let round = 1; round <= timing.rounds; round++) {
    for (const variant of scenario.variants) {
      const what = [scenario.name, variant.label, `round ${round}`].filter((part) => part !== "").join(", ");
      const teams = await openTeams(taking, variant, stage, timing, watcher, what);
      try {
        for (const load of variant.loads) {
          for (let turn = (round - 1) * timing.turns + 1; turn <= round * timing.turns; turn++) {
            for (const team of [...teams]) {
              const contestant = title(team.contestant);
              const row = { scenario: scenario.name, variant: variant.label, load, contestant };
              const work = `${what}: ${contestant}, ${load.action} ${load.inFlight} × ${load.size} B`;
              try {
                const sample = await watcher.during(work, measure(team, load, variant, timing));
                rowFor(rows, row).push({ turn, ...sample });
              } catch (error) {
                watcher.failed(work, error);
                teams.splice(teams.indexOf(team), 1);
                await team[Symbol.asyncDispose]();
              }
            }
          }
        }
      } finally {
        await Promise.all(teams.map((team) => team[Symbol.asyncDispose]()));
      }
    }
  }
  return rows;
}

/** The samples of this row, which is added when it is new. */
function rowFor(rows: Row[], { scenario, variant, load, contestant }: Omit<Row, "samples">): Sample[] {
  const known = rows.find((row) =>
    row.variant === variant && row.load === load && row.contestant === contestant
  );
  if (known !== undefined) return known.samples;
  const samples: Sample[] = [];
  rows.push({ scenario, variant, load, contestant, samples });
  return samples;
}

/** What to tell a process of this contestant. */
export function settingsFor(stage: Stage, url: string, rest: Partial<Settings> = {}): Settings {
  const { issuer } = stage;
  return { url, concurrency: CONCURRENCY, services: 1, subscribers: 0, cold: false, issuer, ...rest };
}

async function openTeams(
  contestants: readonly Contestant[],
  variant: Variant,
  stage: Stage,
  timing: Timing,
  watcher: Watcher,
  what: string,
): Promise<Team[]> {
  const teams: Team[] = [];
  for (const contestant of contestants) {
    const name = title(contestant);
    try {
      const team = await watcher.during(`${what}: start of ${name}`, openTeam(contestant, variant, stage));
      teams.push(team);
      const load: Load = { ...variant.loads[0]!, inFlight: 256, warmUp: timing.opening, duration: 0 };
      if (timing.opening > 0) {
        const { total } = await watcher.during(
          `${what}: ${name} warms up`,
          team.caller.ask({ ask: "load", load }),
        );
        if (load.action === "event") team.published = total;
      }
    } catch (error) {
      watcher.failed(`${what}: start of ${name}`, error);
    }
  }
  return teams;
}

async function openTeam(contestant: Contestant, variant: Variant, stage: Stage): Promise<Team> {
  const { instances, services: count, subscribers } = variant;
  const name = title(contestant);
  await using owned = new AsyncDisposableStack();
  const vhost = contestant.broker === "nats" || instances === 0
    ? undefined
    : owned.use(await stage.broker.createVhost(`bench-${crypto.randomUUID().slice(0, 8)}`));
  const url = instances === 0 ? "memory:bench" : vhost?.url ?? stage.nats ?? "";
  const settings = settingsFor(stage, url, { services: count, subscribers });
  const start = async (role: string) =>
    owned.use(await ProgramProcess.start(`${name} ${role}`, stage.commandOf(contestant)));
  const services = await Promise.all(Array.from({ length: instances }, () => start("service")));
  const caller = await start("caller");
  const serving = instances === 0 ? [caller] : services;
  for (const service of serving) await service.ask({ ask: "serve", settings });
  await caller.ask({ ask: "connect", settings });
  const all = owned.move();
  return { contestant, services, caller, published: 0, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

async function measure(
  team: Team,
  shape: LoadShape,
  variant: Variant,
  timing: Timing,
): Promise<Omit<Sample, "turn">> {
  const { caller, services } = team;
  const load: Load = { ...shape, warmUp: timing.warmUp, duration: timing.duration };
  const cpuBefore = await cpuOf(services);
  if (shape.action === "event") return await measureEvents(team, load, variant, cpuBefore);
  const { rate, p50, p99, total, cpu } = await caller.ask({ ask: "load", load });
  if (shape.action === "command") {
    // A request comes after them in the same queue: with its answer, all of them are done.
    await caller.ask({
      ask: "load",
      load: { ...load, action: "request", inFlight: 1, warmUp: 0, duration: 1 },
    });
  }
  return { rate, p50, p99, cpu: (cpu + await cpuOf(services) - cpuBefore) / total };
}

/** The rate is that of the deliveries, up to the last one. */
async function measureEvents(
  team: Team,
  load: Load,
  { subscribers }: Variant,
  cpuBefore: number,
): Promise<Omit<Sample, "turn">> {
  const { caller, services } = team;
  const [service] = services;
  if (service === undefined) throw new Error("There is nobody to listen");
  await service.ask({ ask: "received", count: team.published * subscribers });
  const published = await caller.ask({ ask: "load", load });
  team.published += published.total;
  const deliveries = published.total * subscribers;
  const { at } = await service.ask({ ask: "received", count: team.published * subscribers });
  return {
    rate: deliveries / (at - published.began) * 1_000,
    p50: published.p50,
    p99: published.p99,
    cpu: (published.cpu + await cpuOf(services) - cpuBefore) / deliveries,
  };
}

async function cpuOf(services: readonly ProgramProcess[]): Promise<number> {
  let used = 0;
  for (const service of services) used += (await service.ask({ ask: "cpu" })).used;
  return used;
}
