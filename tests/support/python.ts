/**
 * A Python environment with NuroPb, for the tests beside a live Python service.
 *
 * @module
 */
import { join } from "node:path";
import { installDebianPackage, isRoot } from "./debian.ts";
import type { Found } from "./found.ts";
import { must, run } from "./processes.ts";

const NUROPB_VERSION = "0.1.8";
const CANDIDATES = ["python3.11", "python3.10", "python3.9", "python3"];
const IS_SUPPORTED = "import sys; sys.exit(not (3, 9) <= sys.version_info < (3, 12))";
const HAS_NUROPB = `import importlib.metadata, sys
sys.exit(importlib.metadata.version("nuropb") != "${NUROPB_VERSION}")`;

/** The path of a Python that has NuroPb, made in this folder unless it is there already. */
export async function findPython(cache: string): Promise<Found<string>> {
  const environment = join(cache, "python");
  const python = join(environment, "bin", "python");
  if (await succeeds(python, HAS_NUROPB)) return { found: python };

  const base = await supportedPython();
  if (base === undefined) return { missing: "install a Python from 3.9 to 3.11, which NuroPb 0.1.8 needs" };
  try {
    await makeEnvironment(base, environment);
    await must(python, ["-m", "pip", "install", "--quiet", `nuropb==${NUROPB_VERSION}`]);
    return { found: python };
  } catch (error) {
    return { missing: error instanceof Error ? error.message : String(error) };
  }
}

async function supportedPython(): Promise<string | undefined> {
  for (const candidate of CANDIDATES) {
    if (await succeeds(candidate, IS_SUPPORTED)) return candidate;
  }
  return undefined;
}

async function makeEnvironment(base: string, environment: string): Promise<void> {
  const args = ["-m", "venv", "--clear", environment];
  const { code } = await run(base, args);
  if (code === 0) return;
  // Debian has this module in a package of its own.
  if (isRoot()) await installDebianPackage("python3-venv");
  await must(base, args);
}

async function succeeds(python: string, program: string): Promise<boolean> {
  return await run(python, ["-c", program]).then(({ code }) => code === 0, () => false);
}
