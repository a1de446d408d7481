/**
 * Builds the tests for Node, against the built package and not against the sources.
 *
 * @module
 */
import { existsSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { build, type Plugin, stop } from "esbuild";
import { must } from "./processes.ts";

/** What to build, and where. Paths of files are relative to `root`. */
export interface NodeBuild {
  readonly root: string;
  readonly files: readonly string[];
  /** The packed package. */
  readonly tarball: string;
  /** Below `root`, so that Node finds the dependencies there. */
  readonly folder: string;
}

/** Puts each file into the folder, under its path with `.js` in place of `.ts`. */
export async function buildForNode({ root, files, tarball, folder }: NodeBuild): Promise<void> {
  const library = join(folder, "node_modules", "@nuropb", "mesh");
  await Deno.mkdir(library, { recursive: true });
  await must("tar", ["-xzf", tarball, "-C", library, "--strip-components=1"]);
  // A package of its own, since "@nuropb/mesh" would lead to the sources from within the repository's.
  await Deno.writeTextFile(join(folder, "package.json"), `{ "type": "module" }\n`);
  try {
    await build({
      absWorkingDir: root,
      entryPoints: [...files],
      outbase: root,
      outdir: folder,
      bundle: true,
      format: "esm",
      platform: "node",
      target: "node20",
      packages: "external",
      sourcemap: "inline",
      logLevel: "silent",
      plugins: [builtPackage(root, library)],
    });
  } finally {
    await stop();
  }
}

function builtPackage(root: string, library: string): Plugin {
  return {
    name: "built-package",
    setup({ onLoad, onResolve }) {
      onResolve({ filter: /^@std\/testing\/bdd$/ }, () => ({ path: join(root, "tests/support/bdd.ts") }));
      onResolve({ filter: /^\.\.?\// }, ({ path, resolveDir }) => {
        const target = relative(root, resolve(resolveDir, path));
        if (target !== "mod.ts" && !target.startsWith("src/")) return undefined;
        const built = join(library, target.replace(/\.ts$/, ".js"));
        return existsSync(built) ? { path: pathToFileURL(built).href, external: true } : undefined;
      });
      onLoad({ filter: /\.ts$/ }, async ({ path }) => ({
        contents: keepLocation(await Deno.readTextFile(path), path),
        loader: "ts",
      }));
    },
  };
}

/** Tests find their files by their own place, which is that of the source. */
function keepLocation(code: string, path: string): string {
  return code
    .replaceAll("import.meta.url", JSON.stringify(pathToFileURL(path).href))
    .replaceAll("import.meta.dirname", JSON.stringify(dirname(path)));
}
