/**
 * Bundles for runtimes that load one file: a worker's, a page's.
 *
 * @module
 */
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { build, type BuildOptions, type Plugin } from "esbuild";

export const root: string = fileURLToPath(new URL("../..", import.meta.url));

/** How any bundle for the edge is made. What a runtime has built in is no part of it. */
export const EDGE: BuildOptions & { metafile: true; write: false } = {
  absWorkingDir: root,
  bundle: true,
  format: "esm",
  platform: "browser",
  target: "es2022",
  metafile: true,
  write: false,
  outdir: "bundle",
  logLevel: "silent",
};

/** The names of Node's modules that `stand_ins/` has something for. */
export const STAND_INS: Readonly<Record<string, string>> = {
  "node:assert/strict": "assert.ts",
  "node:buffer": "buffer.ts",
  "node:crypto": "crypto.ts",
  "node:process": "process.ts",
  "node:test": "test.ts",
  "node:util": "util.ts",
};

/** Leads to the sources, to the tests' own bdd, and to what stands in for Node. */
export const sources: Plugin = {
  name: "sources",
  setup({ onResolve }) {
    onResolve({ filter: /^@nuropb\/mesh$/ }, () => ({ path: `${root}mod.ts` }));
    onResolve({ filter: /^@std\/testing\/bdd$/ }, () => ({ path: `${root}tests/support/bdd.ts` }));
    onResolve({ filter: /^node:/ }, ({ path }) => {
      const file = STAND_INS[path];
      return file === undefined ? { path, external: true } : { path: `${root}tests/edge/stand_ins/${file}` };
    });
  },
};

/** A source file of the repository, with all that it imports, as one module. */
export async function bundle(entry: string): Promise<string> {
  const { outputFiles: [output] } = await build({ ...EDGE, entryPoints: [entry], plugins: [sources] });
  return output?.text ?? "";
}

/**
 * The same for a page, as the modules that it loads: `module.js`, what that imports, and what it may load later.
 *
 * @returns Their code by their names.
 */
export async function splitBundle(entry: string): Promise<ReadonlyMap<string, string>> {
  const { outputFiles } = await build({
    ...EDGE,
    entryPoints: [{ in: entry, out: "module" }],
    splitting: true,
    plugins: [sources],
  });
  return new Map(outputFiles.map(({ path, text }) => [basename(path), text]));
}
