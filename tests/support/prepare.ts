/**
 * Gets together what the tests need: a broker, a Python, a browser, the runtimes, the packed package and its build for Node.
 *
 * @module
 */
import { join } from "node:path";
import { pack } from "../../.ci/pack.ts";
import { findBroker } from "./broker.ts";
import { findDebianCommand } from "./debian.ts";
import { asFound, type Found } from "./found.ts";
import { NODE_REPORTER, type Setting } from "./job.ts";
import { buildForNode } from "./node_build.ts";
import { must } from "./processes.ts";
import type { Progress } from "./progress.ts";
import { findPython } from "./python.ts";
import type { Report } from "./report.ts";
import { findRuntime, type Runtime, type RuntimeName, RUNTIMES, which } from "./runtimes.ts";

/** What to prepare for. Paths of files are relative to `root`. */
export interface Plan {
  /** The repository. */
  readonly root: string;
  /** For what is kept from run to run. */
  readonly cache: string;
  /** For the files of this run. */
  readonly folder: string;
  readonly runtimes: readonly RuntimeName[];
  readonly tests: readonly string[];
  /** What tests start as programs of their own. */
  readonly scripts: readonly string[];
  /** An empty folder for the cells of the parity table. */
  readonly parity: string;
}

/** What is there. Disposing of it ends the broker. */
export interface Prepared extends AsyncDisposable {
  readonly setting: Setting;
  /** Those of the plan that can run here. */
  readonly runtimes: readonly Runtime[];
}

/** Prepares a run. What cannot be had goes into the report, and the rest goes on without it. */
export async function prepare(plan: Plan, progress: Progress, report: Report): Promise<Prepared> {
  const { root, cache, folder, tests } = plan;
  const obtain = async <T>(what: string, work: Promise<Found<T>>): Promise<T | undefined> => {
    try {
      const result = await progress.during(what, work);
      if ("found" in result) return result.found;
      report.skip(what, result.missing);
    } catch (error) {
      report.fail(what, error instanceof Error ? error.message : String(error));
    }
    return undefined;
  };

  const [broker, python, websockify, chromium, tarball, found] = await Promise.all([
    obtain("RabbitMQ", findBroker(folder)),
    obtain("Python", findPython(cache)),
    obtain("websockify", findDebianCommand("websockify")),
    obtain("Chromium", findDebianCommand("chromium")),
    obtain("package", pack(folder).then(asFound)),
    // Bun is also what the test of the package installs it with.
    Promise.all(
      RUNTIMES.filter((name) => name === "bun" || plan.runtimes.includes(name))
        .map((name) => obtain(name, findRuntime(name, cache))),
    ),
    obtain("types", must(Deno.execPath(), ["check", ...tests], { cwd: root }).then(asFound)),
  ]);
  const available = found.filter((runtime) => runtime !== undefined);
  const wanted = available.filter(({ name }) => plan.runtimes.includes(name));

  const built = join(folder, "node");
  const needsBuild = tarball !== undefined && wanted.some(isNode);
  const builds = needsBuild && await obtain("build for Node", build(plan, tarball, built).then(asFound));

  return {
    setting: {
      root,
      folder,
      built,
      broker,
      env: {
        NUROPB_TEST_PYTHON: python ?? "",
        NUROPB_TEST_PARITY: plan.parity,
        NUROPB_TEST_TARBALL: tarball ?? "",
        NUROPB_TEST_DENO: Deno.execPath(),
        NUROPB_TEST_BUN: available.find(({ name }) => name === "bun")?.command ?? "",
        NUROPB_TEST_NODE: await which("node") ?? "",
        NUROPB_TEST_NPM: await which("npm") ?? "",
        NUROPB_TEST_WEBSOCKIFY: websockify ?? "",
        NUROPB_TEST_CHROMIUM: chromium ?? "",
      },
    },
    runtimes: wanted.filter((runtime) => builds === true || !isNode(runtime)),
    [Symbol.asyncDispose]: async () => await broker?.[Symbol.asyncDispose](),
  };
}

/** A test that drives other runtimes itself runs once, on Deno. */
export function runsOn({ name }: Runtime, test: string): boolean {
  return name === "deno" || !test.endsWith("_deno_test.ts");
}

function isNode({ name }: Runtime): boolean {
  return name.startsWith("node");
}

async function build({ root, tests, scripts }: Plan, tarball: string, folder: string): Promise<true> {
  const files = [...tests.filter((test) => !test.endsWith("_deno_test.ts")), ...scripts, NODE_REPORTER];
  await buildForNode({ root, files, tarball, folder });
  return true;
}
