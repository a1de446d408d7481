import assert from "node:assert/strict";
import { NuropbTransportError } from "@nuropb/mesh";
import type { EventMessage } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { uniqueName, urls } from "../support/env.ts";
import { failure, stage, take, within } from "./stage.ts";

const topicsByPattern = {
  "": [""],
  ".*": [".a", ".b"],
  ".#": ["", ".a", ".b", ".a.b", ".a.c", ".a.b.c", ".a.b.b.c", "..b"],
  ".#.b": [".b", ".a.b", "..b"],
  ".*.b": [".a.b", "..b"],
  ".*.*": [".a.b", ".a.c", "..b"],
  ".a.*": [".a.b", ".a.c"],
  ".a.#": [".a", ".a.b", ".a.c", ".a.b.c", ".a.b.b.c"],
  ".a.#.c": [".a.c", ".a.b.c", ".a.b.b.c"],
  ".#.*": [".a", ".b", ".a.b", ".a.c", ".a.b.c", ".a.b.b.c", "..b"],
  ".#.#": ["", ".a", ".b", ".a.b", ".a.c", ".a.b.c", ".a.b.b.c", "..b"],
};

for (const { name, url } of urls()) {
  describe(`subscribe on ${name}`, () => {
    const open = stage(url);

    it("gives an event with its topic, payload, trace, context and target", async () => {
      const mesh = await open.mesh();
      const topic = uniqueName("orders");
      const subscription = mesh.subscribe<{ id: number }>(topic);
      await subscription.ready;
      const options = { context: { user: "Ann" }, traceId: "trace-1", target: ["billing"] };
      await mesh.publish(topic, { id: 1 }, options);
      const [message] = await take(subscription, 1);
      assert.ok(message);
      assert.equal(message.topic, topic);
      assert.deepEqual(message.event, { id: 1 });
      assert.deepEqual(message.target, ["billing"]);
      assert.deepEqual(message.ctx.raw, { user: "Ann" });
      assert.equal(message.ctx.traceId, "trace-1");
      assert.match(message.ctx.correlationId, /^[0-9a-f]{32}$/);
      assert.equal(message.ctx.deadline, Infinity);
      assert.equal(message.ctx.redelivered, false);
      assert.equal(message.ctx.signal.aborted, false);
    });

    for (const event of [null, false, 0, "", "text", [], {}, [1, { a: null }]]) {
      it(`carries the event ${JSON.stringify(event)}`, async () => {
        const mesh = await open.mesh();
        const topic = uniqueName("events");
        const subscription = mesh.subscribe(topic);
        await subscription.ready;
        await mesh.publish(topic, event);
        const [message] = await take(subscription, 1);
        assert.deepEqual(message?.event, event);
        assert.equal(message?.target, null);
      });
    }

    it("makes null of an event that is undefined", async () => {
      const mesh = await open.mesh();
      const topic = uniqueName("events");
      const subscription = mesh.subscribe(topic);
      await subscription.ready;
      await mesh.publish(topic, undefined);
      assert.equal((await take(subscription, 1))[0]?.event, null);
    });

    it("gives every subscriber every event, on one mesh and on several", async () => {
      const publisher = await open.mesh();
      const topic = uniqueName("events");
      const subscriptions = [publisher, publisher, await open.mesh()].map((mesh) => mesh.subscribe(topic));
      await Promise.all(subscriptions.map(({ ready }) => ready));
      for (const event of [1, 2, 3]) await publisher.publish(topic, event);
      for (const subscription of subscriptions) {
        assert.deepEqual((await take(subscription, 3)).map(({ event }) => event), [1, 2, 3]);
      }
    });

    it("knows * as exactly one word and # as any number of them", async () => {
      const mesh = await open.mesh();
      const root = uniqueName("root");
      const end = uniqueName("end");
      const wanted = Object.entries(topicsByPattern);
      const subscriptions = wanted.map(([pattern]) => mesh.subscribe([root + pattern, end]));
      await Promise.all(subscriptions.map(({ ready }) => ready));
      for (const topic of ["", ".a", ".b", ".a.b", ".a.c", ".a.b.c", ".a.b.b.c", "..b"]) {
        await mesh.publish(root + topic, topic);
      }
      await mesh.publish(end, "end");
      for (const [index, [pattern, topics]] of wanted.entries()) {
        const got: unknown[] = [];
        for await (const { event } of subscriptions[index]!) {
          if (event === "end") break;
          got.push(event);
        }
        assert.deepEqual(got, topics, `ROOT${pattern}`);
      }
    });

    it("takes several patterns, and gives an event once that more than one of them takes", async () => {
      const mesh = await open.mesh();
      const [red, blue] = [uniqueName("red"), uniqueName("blue")];
      const subscription = mesh.subscribe([`${red}.*`, `${red}.#`, blue]);
      await subscription.ready;
      const topics = [`${red}.a`, `${red}.a.b`, uniqueName("green"), blue];
      for (const topic of topics) await mesh.publish(topic, topic);
      const got = (await take(subscription, 3)).map(({ topic }) => topic);
      assert.deepEqual(got, [`${red}.a`, `${red}.a.b`, blue]);
    });

    it("keeps the order of 200 events that are published at once", async () => {
      const publisher = await open.mesh();
      const topic = uniqueName("events");
      const subscription = (await open.mesh()).subscribe(topic);
      await subscription.ready;
      const numbers = Array.from({ length: 200 }, (_, index) => index);
      await Promise.all(numbers.map((number) => publisher.publish(topic, number)));
      assert.deepEqual((await take(subscription, 200)).map(({ event }) => event), numbers);
    });

    it("loses nothing when more events come than its buffer holds", async () => {
      const mesh = await open.mesh();
      const topic = uniqueName("events");
      const subscription = mesh.subscribe(topic, { buffer: 2 });
      await subscription.ready;
      const numbers = Array.from({ length: 25 }, (_, index) => index);
      for (const number of numbers) await mesh.publish(topic, number);
      assert.deepEqual((await take(subscription, 25)).map(({ event }) => event), numbers);
    });

    it("gives the events to a loop, which leaving ends", async () => {
      const mesh = await open.mesh();
      const topic = uniqueName("events");
      const subscription = mesh.subscribe(topic);
      await subscription.ready;
      for (const number of [1, 2, 3]) await mesh.publish(topic, number);
      const got: unknown[] = [];
      for await (const { event } of subscription) {
        got.push(event);
        if (got.length === 2) break;
      }
      assert.deepEqual(got, [1, 2]);
      assert.equal((await within(subscription.next())).done, true);
    });

    it("ends a loop that waits when it is closed", async () => {
      const subscription = (await open.mesh()).subscribe(uniqueName("events"));
      await subscription.ready;
      const loop = drain(subscription);
      await subscription.close();
      assert.deepEqual(await within(loop), []);
    });

    it("can be closed twice, and disposed of", async () => {
      const subscription = (await open.mesh()).subscribe(uniqueName("events"));
      await Promise.all([subscription.close(), subscription.close()]);
      await subscription[Symbol.asyncDispose]();
      assert.equal((await within(subscription.next())).done, true);
    });

    it("ends a loop that waits when its signal aborts", async () => {
      const controller = new AbortController();
      const subscription = (await open.mesh()).subscribe(uniqueName("events"), { signal: controller.signal });
      await subscription.ready;
      const loop = drain(subscription);
      controller.abort();
      assert.deepEqual(await within(loop), []);
    });

    it("is over at once when its signal has aborted before", async () => {
      const subscription = (await open.mesh()).subscribe("never", { signal: AbortSignal.abort() });
      await within(subscription.ready);
      assert.deepEqual(await within(drain(subscription)), []);
    });

    it("ends a loop that waits when the mesh is closed", async () => {
      const mesh = await open.mesh();
      const subscription = mesh.subscribe(uniqueName("events"));
      await subscription.ready;
      const loop = drain(subscription).then(() => "ended", () => "failed");
      await mesh.close();
      assert.equal(await within(loop, 2_000), "ended");
    });

    it("fails on a closed mesh", async () => {
      const mesh = await open.mesh();
      await mesh.close();
      const subscription = mesh.subscribe(uniqueName("events"));
      assert.equal((await failure(NuropbTransportError, () => within(subscription.ready))).code, "CLOSED");
      assert.equal((await failure(NuropbTransportError, () => within(subscription.next()))).code, "CLOSED");
    });

    it("serves several takers at once", async () => {
      const mesh = await open.mesh();
      const topic = uniqueName("events");
      const subscription = mesh.subscribe(topic);
      await subscription.ready;
      await mesh.publish(topic, 0);
      await take(subscription, 1);
      const takers = [subscription.next(), subscription.next(), subscription.next()];
      for (const number of [1, 2, 3]) await mesh.publish(topic, number);
      const got = (await within(Promise.all(takers), 2_000)).map(({ value }) => value?.event);
      assert.deepEqual(got, [1, 2, 3]);
    });

    it("gives what it did not take to nobody after it has ended", async () => {
      const mesh = await open.mesh();
      const topic = uniqueName("events");
      const subscription = mesh.subscribe(topic);
      await subscription.ready;
      await mesh.publish(topic, 1);
      await subscription.close();
      assert.deepEqual(await within(drain(subscription)), []);
    });

    it("can ask onwards, with the trace of the event", async () => {
      const service = await open.service({
        trace: (_params: unknown, { traceId }: { traceId: string | null }) => traceId,
      });
      const mesh = await open.mesh();
      const topic = uniqueName("events");
      const subscription = mesh.subscribe(topic);
      await subscription.ready;
      await mesh.publish(topic, 1, { traceId: "trace-of-the-event" });
      const [message] = await take(subscription, 1);
      assert.equal(await message?.ctx.mesh.request(service.name, "trace"), "trace-of-the-event");
    });
  });
}

async function drain<Context>(events: AsyncIterable<EventMessage<unknown, Context>>): Promise<unknown[]> {
  const got: unknown[] = [];
  for await (const { event } of events) got.push(event);
  return got;
}
