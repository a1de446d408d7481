/**
 * One fault after the other, and how long each takes to be over for those whose links it broke.
 *
 * @module
 */
import { canMeet, planBoth, planFault, type PlannedFault, type Stage } from "./faults.ts";
import type { Random } from "./random.ts";
import type { SoakProgress } from "./soak_progress.ts";
import type { Recovery } from "./summary.ts";

/** Between two faults, in ms. */
const PAUSE_MS = [300, 2_500] as const;

/** How often two faults meet. */
const MEETING_SHARE = 0.3;

/** After so long a link counts as never back, in ms. */
const GIVE_UP_MS = 60_000;

/** Runs until a time, in ms since the epoch, and gives how each fault went. */
export async function runFaults(
  stage: Stage,
  kinds: readonly string[],
  random: Random,
  until: number,
  stopped: AbortSignal,
  progress: SoakProgress,
  onproblem: (problem: string) => void,
): Promise<Recovery[]> {
  const recoveries: Recovery[] = [];
  let bag: string[] = [];
  for (;;) {
    await pause(random.between(...PAUSE_MS));
    if (Date.now() >= until || stopped.aborted) return recoveries;
    // All kinds come before one comes again.
    if (bag.length === 0) bag = random.shuffle(kinds);
    if (bag.length === 0) continue;
    const { kind, text, affected, run } = planNext(bag, stage, random);
    progress.text = text;
    try {
      const end = await run();
      progress.text = `recovery from: ${text}`;
      const number = recoveries.length + 1;
      const back = Promise.all(affected.map((worker) => worker.probe(number)));
      const times = await Promise.race([back, pause(GIVE_UP_MS)]);
      const milliseconds = times === undefined ? null : Math.max(0, Math.max(...times) - end);
      recoveries.push({ kind, text, milliseconds });
      progress.print(`${text}: ${milliseconds === null ? "never back" : `back after ${milliseconds} ms`}`);
    } catch (error) {
      onproblem(`${text} could not be done: ${error}`);
    }
    progress.text = "";
  }
}

/** Takes a fault from the bag, or two of them that meet. */
function planNext(bag: string[], stage: Stage, random: Random): PlannedFault {
  const kind = bag.pop()!;
  const next = bag.at(-1);
  const fault = planFault(kind, stage, random);
  if (next === undefined || random.next() >= MEETING_SHARE || !canMeet(kind, next)) return fault;
  bag.pop();
  return planBoth(fault, planFault(next, stage, random), random);
}

function pause(milliseconds: number): Promise<undefined> {
  return new Promise((resolve) => setTimeout(() => resolve(undefined), milliseconds));
}
