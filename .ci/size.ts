/**
 * What the library weighs in a bundle, minified and gzipped: what a program loads at once, and all that it may load.
 * Bundlers split it where it imports a part of itself when that is first used.
 *
 * deno run -A .ci/size.ts [--details]
 *
 * @module
 */
import { relative } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { gzipSync } from "node:zlib";
import { build, type Metafile, stop } from "esbuild";

/** A file of a bundle. */
type Chunk = Metafile["outputs"][string] & {
  readonly path: string;
  /** Minified and gzipped, in kB (1 000 bytes). */
  readonly size: number;
};

interface Measure {
  readonly name: string;
  readonly code: string;
  /** The parts that are counted beside what is loaded at once. */
  readonly later: readonly string[];
  /** The most that it may weigh, in kB. */
  readonly limit: number;
  /** The most that all of it may weigh in one file, for runtimes that load no more. */
  readonly limitInOne: number;
  /** What may be in none of its files, whenever they are loaded: parts of paths. */
  readonly without: readonly string[];
}

const root = fileURLToPath(new URL("..", import.meta.url));
const JOSE = /node_modules\/jose\//;
const caller = {
  code: `export { connect } from "./mod.ts";`,
  limitInOne: 40.8,
  without: [
    "node_modules/jose/",
    "src/wire/private_key.ts",
    "src/service.ts",
    "src/host/methods.ts",
    "src/host/dispatcher.ts",
  ],
};

/**
 * A caller that works cannot have the 16 kB once wished for. By themselves AMQPBaseClient is 8.1 kB, with the errors
 * 8.9, with encryption 10.9, with envelope and JSON 13.4, with correlator and proxy 14.5: and that is no connection yet,
 * nor one that is kept open, nor a call that is not lost with it.
 */
const MEASURES: readonly Measure[] = [
  { ...caller, name: "a caller", later: [], limit: 33.7 },
  // A page's WebSocket is there from the start.
  { ...caller, name: "a caller that encrypts", later: ["src/client/call_encryptor.ts"], limit: 36.2 },
  {
    name: "all of mod.ts",
    code: `export * from "./mod.ts";`,
    later: [],
    limit: 43.4,
    limitInOne: 59.3,
    without: [],
  },
];

const { values: { details } } = parseArgs({ options: { details: { type: "boolean", default: false } } });
let failed = false;
for (const { name, code, later, limit, limitInOne, without } of MEASURES) {
  const chunks = await bundle(code, true);
  const all = reached("<stdin>", chunks, ["import-statement", "dynamic-import"]);
  const loaded = new Set(
    ["<stdin>", ...later].flatMap((entry) => reached(entry, chunks, ["import-statement"])),
  );
  const size = sizeOf(loaded);
  const single = await bundle(code, false);
  const inOne = sizeOf(single);
  const imports = all.flatMap(({ imports }) => imports).filter(({ external }) => external);
  const early = [...loaded].flatMap(partsOf).filter(({ path }) => JOSE.test(path));
  const parts = new Set([...all, ...single].flatMap(partsOf).map(({ path }) => path));
  const unused = [...parts].filter((path) => without.some((part) => path.includes(part)));
  const faults = [
    ...(size > limit ? [`is more than ${limit} kB`] : []),
    ...(inOne > limitInOne ? [`is more than ${limitInOne} kB in one file`] : []),
    ...imports.map(({ path }) => `imports ${path}, which not every runtime has`),
    ...early.map(({ path }) => `loads ${path} at once`),
    ...unused.map((path) => `has ${path}, which it does not use`),
  ];
  failed ||= faults.length > 0;
  const files = `${sizeOf(all).toFixed(1)} kB in ${all.length} files`;
  console.log(`${name}: ${size.toFixed(1)} kB of ${files}; not split, ${inOne.toFixed(1)} kB`);
  for (const fault of faults) console.log(`  ${fault}`);
  for (const chunk of details ? all : []) {
    const when = loaded.has(chunk) ? "at once" : "later";
    console.log(`${chunk.size.toFixed(3).padStart(8)}  ${when}: ${chunk.entryPoint ?? "shared by others"}`);
    for (const { path, bytes } of partsOf(chunk)) console.log(`${`${bytes}`.padStart(16)}  ${path}`);
  }
}
await stop();
if (failed) Deno.exit(1);

/** The files of a bundle, which is one file where it is not split. */
async function bundle(contents: string, splitting: boolean): Promise<readonly Chunk[]> {
  const { outputFiles, metafile } = await build({
    absWorkingDir: root,
    stdin: { contents, resolveDir: root },
    bundle: true,
    splitting,
    minify: true,
    format: "esm",
    platform: "browser",
    target: "esnext",
    metafile: true,
    write: false,
    outdir: "bundle",
    logLevel: "silent",
  });
  return outputFiles.map(({ path: absolute, contents }) => {
    const path = relative(root, absolute).replaceAll("\\", "/");
    return { ...metafile.outputs[path]!, path, size: gzipSync(contents, { level: 9 }).byteLength / 1_000 };
  });
}

/** The file of an entry, and those that it imports in these ways, and they in turn. */
function reached(entry: string, chunks: readonly Chunk[], kinds: readonly string[]): readonly Chunk[] {
  const found = new Set(chunks.filter(({ entryPoint }) => entryPoint === entry));
  if (found.size === 0) throw new Error(`No file of the bundle is ${entry}'s`);
  // What is added on the way is looked at, too.
  for (const { imports } of found) {
    const paths = imports.filter(({ kind }) => kinds.includes(kind)).map(({ path }) => path);
    for (const chunk of chunks) if (paths.includes(chunk.path)) found.add(chunk);
  }
  return [...found];
}

function sizeOf(chunks: Iterable<Chunk>): number {
  return [...chunks].reduce((sum, { size }) => sum + size, 0);
}

/** What a file is made of, the largest first. */
function partsOf({ inputs }: Chunk): { path: string; bytes: number }[] {
  return Object.entries(inputs)
    .map(([path, { bytesInOutput }]) => ({ path, bytes: bytesInOutput }))
    .filter(({ bytes }) => bytes > 0)
    .toSorted((left, right) => right.bytes - left.bytes);
}
