import assert from "node:assert/strict";
import fc from "fast-check";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { connect, NuropbException, serve } from "@nuropb/mesh";
import type { Mesh, Service } from "@nuropb/mesh";
import { uniqueName } from "../support/env.ts";
import { noticeRejections } from "../transport/fake_broker.ts";
import { anything, data, shown, touchable } from "./arbitraries.ts";
import type { Maker } from "./arbitraries.ts";
import { checkAsync, settledOutcomeOf } from "./property.ts";

/** What TypeScript would not let pass. */
const wrong = <Type>(value: unknown) => value as Type;

const url = `memory:${uniqueName("mesh")}`;
const service = "shop";

/** A value that is right, or any other. */
const orAnything = (right: Maker, other = touchable): fc.Arbitrary<Maker> =>
  fc.oneof({ weight: 2, arbitrary: fc.constant(shown(right)) }, other);

/** Options of which some are given, mostly as they must not be; or what is no options at all. */
function optionsOf(right: Readonly<Record<string, Maker>>): fc.Arbitrary<Maker> {
  const given = fc.record(
    Object.fromEntries(Object.entries(right).map(([name, make]) => [name, orAnything(make)])),
    { requiredKeys: [] },
  ).map((makers) => () => Object.fromEntries(Object.entries(makers).map(([name, make]) => [name, make?.()])));
  return fc.oneof({ weight: 6, arbitrary: given }, data.map((value) => () => value)).map(shown);
}

const signal = () => new AbortController().signal;
const callOptions = optionsOf({
  context: () => ({ a: 1 }),
  ttl: () => 1_000,
  signal,
  traceId: () => "trace",
  encrypted: () => false,
  idempotent: () => true,
});
const publishOptions = optionsOf({
  context: () => ({ a: 1 }),
  signal,
  traceId: () => "trace",
  target: () => ["a"],
});
const connectOptions = {
  lazy: () => true,
  connectTimeout: () => 500,
  heartbeat: () => 1_000,
  confirmTimeout: () => 1_000,
  name: () => "name",
  declare: () => true,
  replies: () => "queue",
  maxPending: () => 10,
  integers: () => "bigint",
  maxMessageSize: () => 100_000,
  tls: () => ({}),
  logger: () => console,
  signal,
};
const params = orAnything(() => ({ item: "tea" }), anything);
const services = orAnything(() => service);
const methods = orAnything(() => "order");
const topics = orAnything(() => "orders.created");

describe("an argument that is anything at all", () => {
  noticeRejections();
  let served: Service;
  let mesh: Mesh;
  beforeAll(async () => {
    served = await serve({ order: (params: object) => params }, {
      url,
      name: service,
      events: { "orders.*": () => {} },
    });
    mesh = await connect(url);
  });
  afterAll(async () => {
    await mesh.close();
    await served.close();
  });

  /** Runs a call, which may succeed or fail in the ways that are told, and then one that must succeed. */
  async function harmless(call: () => unknown): Promise<void> {
    await settledOutcomeOf(async () => void await call(), NuropbException);
    assert.deepEqual(await mesh.request(service, "order", { item: "tea" }), { item: "tea" });
  }

  for (const name of ["request", "requestRaw", "command"] as const) {
    it(`to ${name} is refused or works`, async () => {
      await checkAsync(
        1_000,
        fc.asyncProperty(services, methods, params, callOptions, async (...makers) => {
          const [to, method, given, options] = makers.map((make) => make());
          await harmless(() => mesh[name](wrong(to), wrong(method), wrong(given), wrong(options)));
        }),
      );
    });
  }

  it("to a service's typed object is refused or works", async () => {
    await checkAsync(
      500,
      fc.asyncProperty(services, callOptions, params, callOptions, async (...makers) => {
        const [to, defaults, given, options] = makers.map((make) => make());
        await harmless(() => {
          const shop = mesh.service<Record<string, (params: unknown) => unknown>>(wrong(to), wrong(defaults));
          return shop["order"]!(given, wrong(options));
        });
      }),
    );
  });

  it("to publish is refused or works", async () => {
    await checkAsync(
      1_000,
      fc.asyncProperty(topics, anything, publishOptions, async (...makers) => {
        const [topic, event, options] = makers.map((make) => make());
        await harmless(() => mesh.publish(wrong(topic), event, wrong(options)));
      }),
    );
  });

  it("to subscribe is refused or works", async () => {
    const patterns = fc.oneof(
      topics,
      fc.array(topics, { maxLength: 3 }).map((all) => () => all.map((make) => make())),
    );
    await checkAsync(
      500,
      fc.asyncProperty(patterns, optionsOf({ buffer: () => 5, signal }), async (...makers) => {
        const [pattern, options] = makers.map((make) => make());
        await harmless(async () => {
          const subscription = mesh.subscribe(wrong(pattern), wrong(options));
          await subscription.ready;
          await subscription.close();
        });
      }),
    );
  });

  it("to deadLetters is refused or works", async () => {
    await checkAsync(
      200,
      fc.asyncProperty(optionsOf({ buffer: () => 5, signal }), async (make) => {
        await harmless(async () => {
          const letters = mesh.deadLetters(wrong(make()));
          await letters.ready;
          await letters.close();
        });
      }),
    );
  });

  it("to describe is refused or works", async () => {
    await checkAsync(
      500,
      fc.asyncProperty(services, optionsOf({ refresh: () => true, signal }), async (...makers) => {
        const [to, options] = makers.map((make) => make());
        await harmless(() => mesh.describe(wrong(to), wrong(options)));
      }),
    );
  });

  it("to ready is refused or works", async () => {
    await checkAsync(
      200,
      fc.asyncProperty(optionsOf({ signal }), (make) => harmless(() => mesh.ready(wrong(make())))),
    );
  });

  it("to connect is refused or works", async () => {
    const urls = orAnything(() => url);
    await checkAsync(
      800,
      fc.asyncProperty(urls, optionsOf(connectOptions), async (...makers) => {
        const [where, options] = makers.map((make) => make());
        // Without a url it would be whatever broker there is on this machine.
        if (where === undefined) return;
        await harmless(async () => await (await connect(wrong(where), wrong(options))).close());
      }),
    );
  });

  it("to serve is refused or works", async () => {
    const options = optionsOf({
      ...connectOptions,
      mesh: () => mesh,
      name: () => "other",
      version: () => "1",
      description: () => "text",
      methods: () => ({ work: { description: "works", hidden: false, scopes: [], authorize: () => true } }),
      events: () => ({ "orders.#": () => {} }),
      authorize: () => () => true,
      contextTokenKey: () => "key",
      concurrency: () => 2,
      queueType: () => "classic",
      drainTimeout: () => 100,
    });
    const instances = orAnything(() => ({ work: () => 1 }));
    await checkAsync(
      800,
      fc.asyncProperty(instances, options, async (...makers) => {
        const [instance, given] = makers.map((make) => make());
        // The url is right, since without one it would be whatever broker there is on this machine.
        const isRecord = typeof given === "object" && given !== null && !Array.isArray(given);
        if (given === undefined) return;
        await harmless(async () => {
          const served = await serve(
            wrong<object>(instance),
            wrong<object>(isRecord ? { ...given, url } : given),
          );
          await served.close();
        });
      }),
    );
  });
});
