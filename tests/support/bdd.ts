/**
 * The names of `@std/testing/bdd`, over the test runner of whichever runtime this is: the import map leads that
 * specifier here, since the package itself runs on Deno alone.
 *
 * Every `it` becomes one test of the runner, named `group > sentence`. Groups and hooks are kept here and not left
 * to the runners, so that their order is the same everywhere.
 *
 * @module
 */
import process from "node:process";

/** A test or a hook. */
export type Step = () => void | Promise<void>;

type Hook = "beforeAll" | "beforeEach" | "afterEach" | "afterAll";

interface Group {
  readonly name: string;
  readonly parent: Group | undefined;
  readonly skipped: boolean;
  readonly hooks: Record<Hook, Step[]>;
  /** Tests in it and below that have not ended yet: `afterAll` runs after the last one. */
  remaining: number;
  /** Set by the first test, and kept, so that a failed `beforeAll` fails every test of the group. */
  opened?: Promise<void>;
}

/** Hands one test to the runtime's own runner. */
type Register = (name: string, test: Step, skipped: boolean) => void;

/** How long a test or a hook may take, unless it says more, so that nothing hangs. */
const STEP_TIMEOUT_MS = 60_000;

/** The runner's own timeout: above what a test with its hooks can take, as the one here says more. */
const RUNNER_TIMEOUT_MS = 600_000;

/** How long something may stay open after the tests of a file. */
const OPEN_TIMEOUT_MS = 10_000;

/** How long what the last test left behind has to fail: Deno and Bun end the process with that test. */
const AFTERMATH_MS = 100;

const register = await runner();
let current: Group | undefined;
/** Tests that have not ended yet. */
let remaining = 0;

/** A group of tests. `body` runs at once and must not be asynchronous. */
export function describe(name: string, body: () => void): void {
  group(name, body, false);
}

/** A group that is listed, but not run. */
describe.skip = (name: string, body: () => void): void => group(name, body, true);

/** A test, and how long it may take if that is more than a minute: for one whose point is that time passes. */
export function it(sentence: string, body: Step, timeoutMs: number = STEP_TIMEOUT_MS): void {
  add(sentence, body, current?.skipped ?? false, timeoutMs);
}

/** A test that is listed, but not run. */
it.skip = (sentence: string, body: Step): void => add(sentence, body, true, STEP_TIMEOUT_MS);

/** Runs once, before the first test of the group. */
export const beforeAll = (step: Step): void => addHook("beforeAll", step);

/** Runs once, after the last test of the group, whatever its outcome. */
export const afterAll = (step: Step): void => addHook("afterAll", step);

/** Runs before each test of the group, after those of outer groups. */
export const beforeEach = (step: Step): void => addHook("beforeEach", step);

/** Runs after each test of the group, whatever its outcome, before those of outer groups. */
export const afterEach = (step: Step): void => addHook("afterEach", step);

export { afterAll as after, beforeAll as before, it as test };

function group(name: string, body: () => void, skipped: boolean): void {
  const parent = current;
  const hooks = { beforeAll: [], beforeEach: [], afterEach: [], afterAll: [] };
  current = { name, parent, skipped: skipped || (parent?.skipped ?? false), hooks, remaining: 0 };
  try {
    const result: unknown = body();
    if (result instanceof Promise) throw new TypeError(`describe("${name}") must not be asynchronous`);
  } finally {
    current = parent;
  }
}

function add(sentence: string, body: Step, skipped: boolean, timeoutMs: number): void {
  const groups = lineage(current);
  if (!skipped) {
    remaining++;
    for (const group of groups) group.remaining++;
  }
  register(
    [...groups.map((group) => group.name), sentence].join(" > "),
    () => run(groups, body, timeoutMs),
    skipped,
  );
}

function addHook(hook: Hook, step: Step): void {
  // `bun test` may run many files in one process, where a hook without a group would apply to all of them.
  if (current === undefined) throw new TypeError(`${hook} belongs into a describe`);
  current.hooks[hook].push(step);
}

/** The group and those around it, the outermost first. */
function lineage(group: Group | undefined): Group[] {
  return group === undefined ? [] : [...lineage(group.parent), group];
}

async function run(groups: Group[], body: Step, timeoutMs: number): Promise<void> {
  const inwards = (hook: Hook) => groups.flatMap((group) => group.hooks[hook]);
  const outwards = groups.toReversed();
  const failures: unknown[] = [];
  const attempt = async (step: Step) => {
    try {
      await step();
    } catch (failure) {
      failures.push(failure);
    }
  };
  await attempt(async () => {
    for (const group of groups) await (group.opened ??= inOrder(group.hooks.beforeAll));
    await attempt(async () => {
      await inOrder(inwards("beforeEach"));
      await inTime(body, timeoutMs);
      await settle();
    });
    for (const group of outwards) {
      for (const step of group.hooks.afterEach) await attempt(() => inTime(step));
    }
  });
  for (const group of outwards) {
    if (--group.remaining > 0) continue;
    for (const step of group.hooks.afterAll) await attempt(() => inTime(step));
  }
  if (--remaining === 0) await settle(AFTERMATH_MS);
  if (failures.length > 1) throw new AggregateError(failures, failures.map(String).join("; "));
  if (failures.length === 1) throw failures[0];
}

/** Lets an unhandled rejection surface in the test that left it behind. */
function settle(milliseconds = 0): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

async function inOrder(steps: readonly Step[]): Promise<void> {
  for (const step of steps) await inTime(step);
}

async function inTime(step: Step, timeoutMs: number = STEP_TIMEOUT_MS): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    const fail = () => reject(new Error(`Not done within ${timeoutMs / 1000} s`));
    timer = setTimeout(fail, timeoutMs);
  });
  try {
    await Promise.race([step(), late]);
  } finally {
    clearTimeout(timer);
  }
}

interface BunTest {
  (name: string, test: Step, timeout: number): void;
  skip(name: string, test: Step): void;
}

async function runner(): Promise<Register> {
  if ("Bun" in globalThis) {
    // A variable, as the types of this module are known to Bun alone.
    const specifier = "bun:test";
    const { test } = await import(specifier) as { test: BunTest };
    return (name, body, skipped) => skipped ? test.skip(name, body) : test(name, body, RUNNER_TIMEOUT_MS);
  }
  if ("Deno" in globalThis) {
    const sanitizers = { sanitizeOps: false, sanitizeResources: false, sanitizeExit: false };
    return (name, fn, ignore) => Deno.test({ name, fn, ignore, ...sanitizers });
  }
  const { after, test } = await import("node:test");
  after(endWhenOpen);
  return (name, body, skip) => void test(name, { skip, timeout: RUNNER_TIMEOUT_MS }, body);
}

/** Node waits for what tests leave open: for ever, if nobody ends it. It is left to itself if nothing is open. */
function endWhenOpen(): void {
  const end = () => {
    console.error(`Still open after the tests: ${process.getActiveResourcesInfo().join(", ")}`);
    process.exit(1);
  };
  setTimeout(end, OPEN_TIMEOUT_MS).unref();
}
