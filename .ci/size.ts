/**
 * What the library weighs in a bundle, minified and gzipped: a caller alone, and everything.
 *
 * deno run -A .ci/size.ts [--details]
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { gzipSync } from "node:zlib";
import { build, stop } from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));

/** What is measured, the most that it may weigh in kB (1 000 bytes), and what it must get by without. */
const ENTRIES = [
  {
    name: "connect()",
    code: `export { connect } from "./mod.ts";`,
    limit: 16,
    without: /node_modules\/jose\//,
  },
  { name: "all of mod.ts", code: `export * from "./mod.ts";`, limit: 30, without: undefined },
] as const;

const { values: { details } } = parseArgs({ options: { details: { type: "boolean", default: false } } });
let failed = false;
for (const { name, code, limit, without } of ENTRIES) {
  const { outputFiles: [file], metafile } = await build({
    absWorkingDir: root,
    stdin: { contents: code, resolveDir: root },
    bundle: true,
    minify: true,
    format: "esm",
    platform: "browser",
    target: "esnext",
    metafile: true,
    write: false,
    outdir: "bundle",
    logLevel: "silent",
  });
  if (file === undefined) throw new Error("There is no bundle");
  const kilobytes = gzipSync(file.contents, { level: 9 }).byteLength / 1_000;
  const [output] = Object.values(metafile.outputs);
  const parts = Object.entries(output?.inputs ?? {}).map(([path, { bytesInOutput }]) => ({
    path,
    bytesInOutput,
  }))
    .filter(({ bytesInOutput }) => bytesInOutput > 0)
    .toSorted((left, right) => right.bytesInOutput - left.bytesInOutput);
  const faults = [
    ...(kilobytes > limit ? [`more than ${limit} kB`] : []),
    ...(output?.imports ?? []).map(({ path }) => `imports ${path}`),
    ...parts.filter(({ path }) => without?.test(path)).map(({ path }) => `has ${path}`),
  ];
  failed ||= faults.length > 0;
  console.log(`${name}: ${kilobytes.toFixed(1)} kB${faults.map((fault) => `, ${fault}`).join("")}`);
  if (!details) continue;
  for (const { path, bytesInOutput } of parts) console.log(`${`${bytesInOutput}`.padStart(8)}  ${path}`);
}
await stop();
if (failed) Deno.exit(1);
