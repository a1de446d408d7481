/**
 * Gets together what the benchmark needs: brokers, runtimes, a Python, the programs as Node takes them, and the
 * peers' packages, all of it outside of the product's own.
 *
 * @module
 */
import { join } from "node:path";
import { generateKeyPair, SignJWT } from "jose";
import { pack } from "../../.ci/pack.ts";
import { findBroker } from "../support/broker.ts";
import type { Found } from "../support/found.ts";
import type { Broker } from "../support/management.ts";
import { buildForNode } from "../support/node_build.ts";
import { must } from "../support/processes.ts";
import { findPython } from "../support/python.ts";
import { findRuntime, which } from "../support/runtimes.ts";
import { type Contestant, type Place, title } from "./contestants.ts";
import { startNats } from "./nats_server.ts";
import type { CommandLine } from "./process.ts";
import type { Settings } from "./program.ts";

/** RabbitMQ's own default, in ms: a thousand queues that say more often how they are would be busy with that. */
const RABBITMQ_STATISTICS_INTERVAL = 5_000;

/** What is there. Disposing of it ends the brokers. */
export interface Stage extends AsyncDisposable {
  /** Those who can take part here. */
  readonly contestants: readonly Contestant[];
  readonly broker: Broker;
  readonly nats: string | undefined;
  readonly issuer: Settings["issuer"];
  commandOf(contestant: Contestant): CommandLine;
}

/** Prepares a run of these. Who cannot take part is told to `missing`. */
export async function prepareStage(
  root: string,
  wanted: readonly Contestant[],
  missing: (who: string, why: string) => void,
): Promise<Stage> {
  const cache = join(root, ".cache");
  const bench = join(cache, "bench");
  await Deno.mkdir(bench, { recursive: true });
  await using owned = new AsyncDisposableStack();
  const built = await Deno.makeTempDir({ dir: bench, prefix: "run-" });
  owned.defer(() => Deno.remove(built, { recursive: true }));

  const places = [...new Set(wanted.map(({ place }) => place))];
  const [broker, nats, commands] = await Promise.all([
    findBroker(undefined, RABBITMQ_STATISTICS_INTERVAL),
    wanted.some(({ broker }) => broker === "nats") ? startNats() : undefined,
    commandsOf(places, cache, missing),
    buildPrograms(root, wanted, built),
    wanted.some(({ peer, place }) => peer && place !== "python") ? installPeers(root, bench) : undefined,
  ]);
  if (nats !== undefined) owned.use(nats);
  else if (wanted.some(({ broker }) => broker === "nats")) missing("nats", "install nats-server");
  if ("missing" in broker) throw new Error(`There is no RabbitMQ: ${broker.missing}`);
  owned.use(broker.found);

  const issuer = await makeIssuer();
  const all = owned.move();
  return {
    contestants: wanted.filter(({ place, broker }) =>
      commands.has(place) && (broker === "rabbitmq" || nats !== undefined)
    ),
    broker: broker.found,
    nats: nats?.url,
    issuer,
    commandOf(contestant) {
      const { place, file } = contestant;
      const command = commands.get(place);
      if (command === undefined) throw new Error(`${title(contestant)} cannot run here`);
      const source = join(root, "tests/bench", file);
      if (place === "deno") return { command, args: ["run", "-A", "--no-check", source] };
      if (place === "bun" || place === "python") return { command, args: [source] };
      return { command, args: [join(built, "tests/bench", file.replace(/\.ts$/, ".js"))] };
    },
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
}

async function commandsOf(
  places: readonly Place[],
  cache: string,
  missing: (who: string, why: string) => void,
): Promise<Map<Place, string>> {
  const commands = new Map<Place, string>();
  await Promise.all(places.map(async (place) => {
    const command: Found<string> = place === "python"
      ? await findPython(cache)
      : await findRuntime(place, cache).then((result) =>
        "found" in result ? { found: result.found.command } : result
      );
    if ("found" in command) commands.set(place, command.found);
    else missing(place, command.missing);
  }));
  return commands;
}

async function buildPrograms(root: string, wanted: readonly Contestant[], folder: string): Promise<void> {
  const onNode = wanted.filter(({ place }) => place.startsWith("node"));
  const files = [...new Set(onNode.map(({ file }) => `tests/bench/${file}`))];
  if (files.length > 0) await buildForNode({ root, files, tarball: await pack(folder), folder });
}

/** Puts the peers' packages where the built programs find them. */
async function installPeers(root: string, folder: string): Promise<void> {
  const manifest = await Deno.readTextFile(join(root, "tests/bench/peers/package.json"));
  const installed = join(folder, "package.json");
  if (await Deno.readTextFile(installed).catch(() => "") === manifest) return;
  const npm = await which("npm");
  if (npm === undefined) throw new Error("The peers' packages need npm: install it");
  const pending = await Deno.makeTempDir({ dir: folder, prefix: "peers-" });
  try {
    await Deno.writeTextFile(join(pending, "package.json"), manifest);
    await must(npm, ["install", "--prefix", pending, "--no-package-lock", "--no-audit", "--no-fund"]);
    await Deno.remove(join(folder, "node_modules"), { recursive: true }).catch(() => {});
    await Deno.rename(join(pending, "node_modules"), join(folder, "node_modules"));
    await Deno.writeTextFile(installed, manifest);
  } finally {
    await Deno.remove(pending, { recursive: true });
  }
}

async function makeIssuer(): Promise<Settings["issuer"]> {
  const { publicKey, privateKey } = await generateKeyPair("ES256", { extractable: true });
  const token = await new SignJWT({ sub: "ann" }).setProtectedHeader({ alg: "ES256" })
    .setIssuer("bench").setAudience("bench").setExpirationTime("1 day").sign(privateKey);
  return { publicKey: await crypto.subtle.exportKey("jwk", publicKey), token };
}
