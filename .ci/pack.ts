/**
 * Packs the library for npm: what `deno pack` builds, under the name, dependencies and description of package.json.
 *
 * deno task pack [--out DIR]
 *
 * @module
 */
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { must } from "../tests/support/processes.ts";

/** The part of package.json that goes into the package. */
interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly [field: string]: unknown;
}

const root = fileURLToPath(new URL("..", import.meta.url));
const DOCUMENTS = ["README.md", "LICENSE", "CHANGELOG.md"];

/** Builds the package into the folder, and gives the path of the `.tgz` file. */
export async function pack(out: string): Promise<string> {
  const work = await Deno.makeTempDir({ prefix: "nuropb-pack-" });
  try {
    const built = join(work, "built.tgz");
    await must(Deno.execPath(), ["pack", "--allow-dirty", "--no-source-maps", `--output=${built}`], {
      cwd: root,
    });
    await must("tar", ["-xzf", built, "-C", work]);
    const folder = join(work, "package");
    await removeSources(folder);
    const manifest = await packageManifest();
    await Deno.writeTextFile(join(folder, "package.json"), `${JSON.stringify(manifest, null, 2)}\n`);
    for (const document of DOCUMENTS) {
      await Deno.copyFile(join(root, document), join(folder, document)).catch(ignoreMissing);
    }
    await Deno.mkdir(out, { recursive: true });
    await must("npm", ["pack", "--silent", `--pack-destination=${resolve(out)}`], { cwd: folder });
    return join(resolve(out), `${manifest.name.replace("@", "").replace("/", "-")}-${manifest.version}.tgz`);
  } finally {
    await Deno.remove(work, { recursive: true });
  }
}

/** Sources that nothing public leads to are not built, and would come along as they are. */
async function removeSources(folder: string): Promise<void> {
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    const path = join(folder, name);
    if (isDirectory) await removeSources(path);
    else if (name.endsWith(".ts") && !name.endsWith(".d.ts")) await Deno.remove(path);
  }
}

async function packageManifest(): Promise<Manifest> {
  const { devDependencies: _, ...manifest } = await readJson("package.json");
  const { version } = await readJson("deno.json");
  if (version !== manifest.version) {
    throw new Error(`deno.json has version ${version}, package.json ${manifest.version}: make them the same`);
  }
  const types = "./mod.d.ts";
  const main = "./mod.js";
  return {
    ...manifest,
    main,
    types,
    exports: { ".": { types, default: main }, "./package.json": "./package.json" },
  };
}

async function readJson(file: string): Promise<Manifest> {
  return JSON.parse(await Deno.readTextFile(join(root, file)));
}

function ignoreMissing(error: unknown): void {
  if (!(error instanceof Deno.errors.NotFound)) throw error;
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { out: { type: "string", default: join(root, ".cache") } } });
  console.log(await pack(values.out));
}
