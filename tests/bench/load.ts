/**
 * Keeps a number of actions in flight, and measures them for a time.
 *
 * @module
 */

/** What is to be done, and for how long. */
export interface Load {
  readonly action: string;
  readonly inFlight: number;
  /** Of one payload as JSON, in bytes. */
  readonly size: number;
  /** Before the measurement, in ms. */
  readonly warmUp: number;
  /** Of the measurement, in ms. */
  readonly duration: number;
}

/** How it went. */
export interface Measured {
  /** Actions that were done within the measured time, a second. */
  readonly rate: number;
  /** How long an action took, in ms. */
  readonly p50: number;
  readonly p99: number;
  /** Actions in all, with those before and after the measured time. */
  readonly total: number;
  /** The processor time that all of them took here, in µs. */
  readonly cpu: number;
  /** When the first one began, in ms since the epoch. */
  readonly began: number;
}

/** Warms up and measures, without a pause in between. */
export async function measureLoad<Item>(
  { inFlight, warmUp, duration }: Omit<Load, "action" | "size">,
  action: (item: Item) => Promise<unknown>,
  item: Item,
  cpuTime: () => number,
): Promise<Measured> {
  const cpu = cpuTime();
  const began = Date.now();
  const first = performance.now() + warmUp;
  const last = first + duration;
  const times: number[] = [];
  let total = 0;
  const repeat = async () => {
    for (let started = performance.now(); started < last;) {
      await action(item);
      const now = performance.now();
      total++;
      if (now >= first && now < last) times.push(now - started);
      started = now;
    }
  };
  await Promise.all(Array.from({ length: inFlight }, repeat));
  times.sort((one, other) => one - other);
  return {
    rate: times.length / duration * 1_000,
    p50: times[Math.floor(times.length * 0.5)] ?? NaN,
    p99: times[Math.floor(times.length * 0.99)] ?? NaN,
    total,
    cpu: cpuTime() - cpu,
    began,
  };
}
