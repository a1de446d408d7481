/**
 * Prints round trip times over a RabbitMQ of its own, on every runtime.
 *
 * deno task bench [--runtime deno,bun,node20,node22,node24]
 *
 * @module
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { pack } from "../../.ci/pack.ts";
import { findBroker } from "../support/broker.ts";
import { buildForNode } from "../support/node_build.ts";
import { must } from "../support/processes.ts";
import { readOptions } from "../support/run_options.ts";
import { findRuntime, type Runtime } from "../support/runtimes.ts";
import type { RoundTrips, Times } from "./round_trip_script.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const script = "tests/bench/round_trip_script.ts";

function commandLine({ name, command }: Runtime, built: string): [string, string[]] {
  if (name === "deno") return [command, ["run", "-A", "--no-check", join(root, script)]];
  return [command, [name === "bun" ? join(root, script) : join(built, script.replace(/\.ts$/, ".js"))]];
}

function show({ median, p99 }: Times): string {
  return `${median.toFixed(2).padStart(7)} ${p99.toFixed(2).padStart(7)}`;
}

const cache = join(root, ".cache");
await Deno.mkdir(cache, { recursive: true });
const built = await Deno.makeTempDir({ dir: cache, prefix: "bench-" });
try {
  const broker = await findBroker();
  if (!("found" in broker)) throw new Error(`No RabbitMQ: ${broker.missing}`);
  await using rabbitmq = broker.found;
  const { runtimes } = readOptions();
  const tarball = await pack(built);
  await buildForNode({ root, files: [script], tarball, folder: built });
  console.log("Round trips over loopback, one at a time, in ms\n");
  console.log("                bare client      a request    encrypted one   ratio");
  console.log("              median     p99  median     p99  median     p99");
  for (const name of runtimes) {
    const runtime = await findRuntime(name, cache);
    if (!("found" in runtime)) {
      console.log(`${name.padEnd(10)} not here: ${runtime.missing}`);
      continue;
    }
    await using vhost = await rabbitmq.createVhost(`nuropb-bench-${name}`);
    const [command, args] = commandLine(runtime.found, built);
    const output = await must(command, args, { cwd: root, env: { NUROPB_TEST_URL: vhost.url } });
    const { bare, plain, encrypted } = JSON.parse(output.trim().split("\n").at(-1)!) as RoundTrips;
    const ratio = (encrypted.median / plain.median).toFixed(2);
    console.log(`${name.padEnd(12)}${show(bare)} ${show(plain)} ${show(encrypted)} ${ratio.padStart(7)}`);
  }
} finally {
  await Deno.remove(built, { recursive: true });
}
