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
import { host, type Language } from "./parity_stage.ts";
import { broken, type Feature, inPython } from "./parity_table.ts";
import { PythonPeer } from "./python_peer.ts";
import { brokerUrl, eventually, newTrace, rejection } from "./support.ts";

/** Nothing of these is between two languages. */
const ALONE = ["Python calls Python", "ours calls ours"] as const;

/** Enough for two instances to have answered at least once, unless one of them never does. */
const ROUNDS = 200;

/** How long to wait for a service: a Python one that is deaf does not even try to hear again. */
const ttlFor = (language: Language) => language === "python" ? 1_000 : 10_000;

/** Messages that a Python service neither acks nor rejects. */
const unsettled = [
  {
    kind: "a request without a context, for an asynchronous method",
    type: "request",
    body: {
      tag: "request",
      service: "orders",
      method: "slow",
      params: { sleep: 0 },
      correlation_id: "1",
      trace_id: null,
    },
  },
  {
    kind: "a response in a service's queue",
    type: "response",
    body: { tag: "response", result: 1, error: null, context: {}, correlation_id: "1", trace_id: null },
  },
];

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
        // Else it may be asking for the service's description when the connection goes, which it would do again.
        await caller.ask(service, "slow", { sleep: 0 });
        const answer = caller.ask(service, "slow", { sleep: 0.3 });
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
      instead: "they fail at once: NuropbTransportError",
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
        const ttl = ttlFor(languages.service);
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
      instead: "a service of ours connects anew by itself",
    }],
  },
  {
    name: "connection: outlives a message that cannot be read, which goes to the dead letters once",
    directions: ALONE,
    see: async ({ languages, stage }) => {
      await using service = await host(languages.service, uniqueName("garbled"));
      const letters = await stage.lettersOf(await stage.garble(service.name, "command", "no JSON"));
      const { result, error } = await stage.ours.ask(service.name, "add", { a: 1 }, {
        ttl: ttlFor(languages.service),
      });
      return [letters.length, await service.lost() > 0, error ?? result];
    },
    works: [1, false, 3],
    but: inPython(broken("its channel is closed, and it stays deaf", [1, true, "NuropbTimeoutError"])),
    defects: [{
      list: "live",
      what: "a message that it cannot decode is rejected twice, so the broker closes its channel",
      instead: "a service of ours rejects it once, to the dead letters, and goes on",
    }],
  },
  ...unsettled.map(({ kind, type, body }): Feature => ({
    name: `connection: outlives ${kind}, which goes to the dead letters`,
    directions: ALONE,
    see: async ({ languages, stage }) => {
      await using service = await host(languages.service, uniqueName("wedged"));
      const traceId = await stage.garble(service.name, type, JSON.stringify(body));
      const ttl = ttlFor(languages.service);
      const { result, error } = await stage.ours.ask(service.name, "add", { a: 1 }, { ttl });
      return error ?? [result, (await stage.lettersOf(traceId)).length];
    },
    works: [3, 1],
    but: inPython(broken("never settled: the service gets nothing more", "NuropbTimeoutError")),
    defects: [{
      list: "live",
      what: `it never settles ${kind}`,
      instead: "a service of ours rejects it once, to the dead letters, and goes on",
    }],
  })),
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
