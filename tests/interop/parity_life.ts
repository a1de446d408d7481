/**
 * Rows of the parity table: services that come and go, their connections, and messages that nobody can read.
 *
 * @module
 */
import { createServer } from "node:tls";
import type { AddressInfo } from "node:net";
import { connect, type TlsOptions } from "@nuropb/mesh";
import { relay } from "../conformance/listener.ts";
import { uniqueName } from "../support/env.ts";
import { CallerOfOurs } from "./parity_callers.ts";
import { host } from "./parity_stage.ts";
import { broken, type Feature, inPython } from "./parity_table.ts";
import { PythonPeer } from "./python_peer.ts";
import { brokerUrl, eventually, newTrace, rejection } from "./support.ts";

/** Nothing of these is between two languages. */
const ALONE = ["Python calls Python", "ours calls ours"] as const;

/** Enough for two instances to have answered at least once, unless one of them never does. */
const ROUNDS = 200;

/** How long to wait for a Python service that does not even try to connect anew. */
const DEAF_MS = 1_000;

/** Whether a mesh of ours says hello to a broker with this certificate. */
async function greets(key: string, cert: string, tls: TlsOptions): Promise<boolean> {
  let heard = false;
  const server = createServer({ key, cert }, (socket) => {
    socket.on("error", () => {}).on("data", () => {
      heard = true;
      socket.destroy();
    });
  });
  server.on("tlsClientError", () => {});
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await rejection(connect(`amqps://guest:guest@localhost:${port}/x`, { tls, connectTimeout: 1_000 }));
  await new Promise((resolve) => server.close(resolve));
  return heard;
}

export const life: readonly Feature[] = [
  {
    name: "service: two instances, in the caller's language and in the service's, share the work",
    see: async ({ caller, languages }) => {
      const name = uniqueName("shared");
      await using _one = await host(languages.caller, name);
      await using _other = await host(languages.service, name);
      const answers = new Set<unknown>();
      for (let round = 0; round < ROUNDS && answers.size < 2; round++) {
        answers.add((await caller.ask(name, "instance")).result);
      }
      return answers.size;
    },
    works: 2,
  },
  {
    name: "service: answers what it has begun before it closes",
    see: async ({ caller, languages }) => {
      const [name, traceId] = [uniqueName("closing"), newTrace()];
      const service = await host(languages.service, name);
      let seen: unknown = "no answer";
      const answer = caller.ask(name, "slow", { sleep: 0.3 }, { traceId, ttl: 60_000 });
      answer.then(({ result, error }) => seen = error ?? result, () => {});
      await eventually("the request", async () => await service.has(traceId) || undefined);
      await service.close();
      // What was sent before the service was gone is here by now.
      await caller.ask(uniqueName("nobody"), "greet");
      return seen;
    },
    works: "slept",
    but: inPython(broken("no answer", "no answer")),
    defects: [{
      list: "repeat",
      what: "it stops without a drain",
      instead: "`close()` waits for what runs (`drainTimeout`)",
    }],
  },
  {
    name: "connection: a request under way ends when it is lost",
    directions: ALONE,
    see: async ({ languages, service }) => {
      const line = await relay(brokerUrl());
      try {
        if (languages.caller === "python") {
          await using peer = await PythonPeer.start({ url: line.url, service: uniqueName("lost") });
          peer.request(service, "slow", { sleep: 0.3 }).catch(() => {});
          await peer.request(uniqueName("nobody"), "greet").catch(() => {});
          line.cut();
          return await peer.inspect("unanswered") === 0 ? "ended" : "waits on";
        }
        await using caller = await CallerOfOurs.open(line.url);
        const [traceId] = [newTrace()];
        const answer = caller.ask(service, "slow", { sleep: 0.3 }, { traceId });
        await caller.ask(uniqueName("nobody"), "greet");
        line.cut();
        return (await answer).error === "NuropbTransportError" ? "ended" : "waits on";
      } finally {
        await line.close();
      }
    },
    works: "ended",
    but: inPython(broken("waits on", "waits on")),
    defects: [{
      list: "repeat",
      what: "pending requests never fail on a disconnect",
      instead: "they fail at once: NuropbTransportError, code CONNECTION_LOST",
    }],
  },
  {
    name: "connection: a service hears again after it was lost",
    directions: ALONE,
    see: async ({ languages, stage }) => {
      const line = await relay(brokerUrl());
      const name = uniqueName("deaf");
      try {
        await using _service = await host(languages.service, name, line.url);
        line.cut();
        const ttl = languages.service === "python" ? DEAF_MS : 10_000;
        // A caller of ours in any case, as a Python caller would wait for ever.
        const { result, error } = await stage.ours.ask(name, "add", { a: 1 }, { ttl });
        return error ?? result;
      } finally {
        await line.close();
      }
    },
    works: 3,
    but: inPython(broken("stays deaf", "NuropbTimeoutError")),
    defects: [{
      list: "live",
      what: "after a restart of the broker it may stay deaf",
      instead: "a service of ours connects anew, as often as it takes",
    }],
  },
  {
    name: "connection: outlives a message that cannot be read, which goes to the dead letters once",
    directions: ALONE,
    see: async ({ languages, stage }) => {
      await using service = await host(languages.service, uniqueName("garbled"));
      const letters = await stage.garble(service.name);
      const { result, error } = await stage.ours.ask(service.name, "add", { a: 1 }, { ttl: 3000 });
      return [letters.length, await service.lost(), error ?? result];
    },
    works: [1, 0, 3],
    but: inPython(broken("rejected twice, so that the broker closes the channel", [1, 1, 3])),
    defects: [{
      list: "live",
      what: "a message that it cannot decode is rejected twice, so the broker closes its channel",
      instead: "it is rejected once, to the dead letters; ours sends none that Python cannot read",
    }],
  },
  {
    name: "connection: certificates are checked unless told otherwise",
    directions: ALONE,
    see: async ({ languages, stage: { peer } }) => {
      if (languages.service === "python") return await peer.inspect("verifies");
      const { key, cert } = await peer.inspect("certificate") as { key: string; cert: string };
      // Who does not trust the certificate sends nothing.
      return [await greets(key, cert, {}), await greets(key, cert, { ca: cert })];
    },
    works: [false, true],
    but: inPython(broken("not checked", false)),
    defects: [{
      list: "repeat",
      what: "TLS is not verified by default",
      instead: "the broker's certificate is always checked",
    }],
  },
  {
    name: "options: left as they were given",
    directions: ALONE,
    see: async ({ languages, stage: { peer } }) => {
      if (languages.caller === "python") return await peer.inspect("settings");
      const options = Object.freeze({});
      await using _mesh = await connect(brokerUrl(), options);
      return Object.keys(options);
    },
    works: [],
    but: inPython(broken("written to", [
      "amqp_url",
      "client_only",
      "encryptor",
      "events_exchange",
      "instance_id",
      "message_callback",
      "rpc_exchange",
      "service_name",
    ])),
    defects: [{
      list: "repeat",
      what: "`transport_settings` is mutated",
      instead: "options are read, and never written",
    }],
  },
];
