/**
 * The conformance suite for runtimes without Node, as one module: every file of it, but for those listed here that
 * need more of Node than `stand_ins/` has.
 *
 * @module
 */
import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { readdir } from "node:fs/promises";
import { build } from "esbuild";
import { EDGE, root, sources } from "./bundle.ts";

const FOLDER = "tests/conformance";

/** What needs more of Node than `stand_ins/` has, and why. */
export const LEFT_OUT: Readonly<Record<string, string>> = {
  "allow_list_node_test.ts": "inherits from a class of Node's",
  "amqp_only_access_test.ts": "listens on a port, as a management API that is silent",
  "amqp_only_loss_test.ts": "stands between a mesh and its broker, on a port",
  "connecting_elsewhere_test.ts": "listens on ports, as what is no broker",
  "idempotent_cut_test.ts": "stands between a mesh and its broker, on a port",
  "lazy_unreached_test.ts": "listens on ports, as what is no broker",
  "processes_test.ts": "starts processes",
  "signals_test.ts": "starts processes",
};

/** How many pairs of RSA keys a file of the suite makes at most. */
const KEYS_PER_FILE = 6;

/** The suite as a module. */
export interface Suite {
  /** The test files in it, by name. */
  readonly files: readonly string[];
  readonly code: string;
}

/**
 * Puts the suite together. Fails when a file needs something of Node and is not listed, or is listed and does not.
 *
 * @param main Code that gets a file's outcomes from `run(file, env)`.
 */
export async function conformanceSuite(main: string): Promise<Suite> {
  const names = (await readdir(`${root}${FOLDER}`)).filter((name) => name.endsWith("_test.ts")).toSorted();
  const { metafile } = await build({
    ...EDGE,
    entryPoints: names.map((name) => `${FOLDER}/${name}`),
    plugins: [sources],
  });
  const needy = Object.values(metafile.outputs).flatMap(({ entryPoint = "", imports }) =>
    imports.some(({ external }) => external) ? [entryPoint.slice(FOLDER.length + 1)] : []
  );
  assert.deepEqual(needy.toSorted(), Object.keys(LEFT_OUT), "LEFT_OUT is what cannot run at the edge");
  const files = names.filter((name) => !(name in LEFT_OUT));
  const loaders = files.map((name) => `${JSON.stringify(name)}: () => import("./${FOLDER}/${name}"),`);
  const { outputFiles: [output] } = await build({
    ...EDGE,
    stdin: {
      resolveDir: root,
      loader: "ts",
      contents: `
        import process from "node:process";
        import { runAll } from "./tests/edge/stand_ins/test.ts";
        const files = { ${loaders.join("\n")} };
        async function run(file: keyof typeof files, env: Record<string, string>) {
          Object.assign(process.env, env);
          await files[file]();
          return await runAll();
        }
        ${main}`,
    },
    plugins: [sources],
  });
  return { files, code: output?.text ?? "" };
}

/** RSA keys, as the environment of a file carries them. */
export const KEYS: string = JSON.stringify(
  Array.from({ length: KEYS_PER_FILE }, () => {
    const { privateKey, publicKey } = generateKeyPairSync("rsa", {
      modulusLength: 2048,
      privateKeyEncoding: { type: "pkcs8", format: "pem" },
      publicKeyEncoding: { type: "spki", format: "pem" },
    });
    return { privatePem: privateKey, publicPem: publicKey };
  }),
);
