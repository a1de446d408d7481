/**
 * The runtimes that the tests run on, and the tools that come with them.
 *
 * @module
 */
import { delimiter, join } from "node:path";
import type { Found } from "./found.ts";
import { must, run } from "./processes.ts";

/** All of them, in the order in which they are tested. */
export const RUNTIMES = ["deno", "bun", "node20", "node22", "node24"] as const;

export type RuntimeName = typeof RUNTIMES[number];

/** A runtime on this machine. */
export interface Runtime {
  readonly name: RuntimeName;
  readonly command: string;
}

interface Package {
  /** What to ask npm for. */
  readonly spec: string;
  readonly command: string;
  /** What `--version` prints. */
  readonly version: RegExp;
}

const PACKAGES: Record<Exclude<RuntimeName, "deno">, Package> = {
  bun: { spec: "bun@~1.4", command: "bun", version: /^1\.4\./ },
  node20: { spec: "node@20", command: "node", version: /^v20\./ },
  node22: { spec: "node@22", command: "node", version: /^v22\./ },
  node24: { spec: "node@24", command: "node", version: /^v24\./ },
};

/** Takes the runtime that is on this machine, or installs it with npm in this folder. */
export async function findRuntime(name: RuntimeName, cache: string): Promise<Found<Runtime>> {
  if (name === "deno") return { found: { name, command: Deno.execPath() } };
  const { spec, command, version } = PACKAGES[name];
  const folder = join(cache, name);
  const installed = join(folder, "node_modules", ".bin", command);
  for (const candidate of [installed, await which(command)]) {
    if (candidate !== undefined && await hasVersion(candidate, version)) {
      return { found: { name, command: candidate } };
    }
  }
  const npm = await which("npm");
  if (npm === undefined) return { missing: `install npm, or ${spec} yourself` };
  const quiet = ["--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"];
  try {
    await Deno.mkdir(folder, { recursive: true });
    await must(npm, ["install", "--prefix", folder, ...quiet, spec]);
  } catch (error) {
    return { missing: error instanceof Error ? error.message : String(error) };
  }
  if (await hasVersion(installed, version)) return { found: { name, command: installed } };
  return { missing: `npm installed ${spec}, but ${installed} does not run` };
}

/** The path of a command. */
export async function which(command: string): Promise<string | undefined> {
  for (const folder of (Deno.env.get("PATH") ?? "").split(delimiter)) {
    const path = join(folder, command);
    const info = await Deno.stat(path).catch(() => undefined);
    if (info?.isFile) return path;
  }
  return undefined;
}

async function hasVersion(command: string, version: RegExp): Promise<boolean> {
  const { code, output } = await run(command, ["--version"]).catch(() => ({ code: 1, output: "" }));
  return code === 0 && version.test(output);
}
