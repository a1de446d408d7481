/**
 * What a process holds once its garbage is collected.
 *
 * @module
 */
import process from "node:process";

/** In bytes. */
export interface Memory {
  /** What the process has of the machine. */
  readonly resident: number;
  /** What its objects take. */
  readonly heap: number;
}

/** The flags that a process which measures its memory is to be started with. */
export function measuringFlags(): string[] {
  if ("Deno" in globalThis) return ["--v8-flags=--expose-gc"];
  return "Bun" in globalThis ? [] : ["--expose-gc"];
}

/** As V8 collects when memory runs out: what it keeps for objects to come goes back to the system, too. */
const LAST_RESORT = { type: "major", execution: "sync", flavor: "last-resort" } as const;

/** The parts of the runtimes that collect garbage. */
interface Collectors {
  readonly Bun?: { gc(synchronous: true): void };
  readonly gc?: (options?: typeof LAST_RESORT) => void;
}

/** How often, since what is found in one collection may free more in the next. */
const COLLECTIONS = 8;

/** Collects the garbage and measures what is left. */
export async function measureMemory(): Promise<Memory> {
  const { Bun, gc } = globalThis as Collectors;
  if (Bun === undefined && gc === undefined) throw new Error(`Start it with ${measuringFlags().join(" ")}`);
  for (let turn = 0; turn < COLLECTIONS; turn++) {
    Bun?.gc(true);
    // Of what is asked for, some Nodes leave old objects out; without words they collect everything.
    gc?.();
    gc?.(LAST_RESORT);
    // Pages go back to the system beside the program, not in it.
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const { rss: resident, heapUsed: heap } = process.memoryUsage();
  return { resident, heap };
}
