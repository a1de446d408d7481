import assert from "node:assert/strict";
import {
  connect,
  type Context,
  type EventHandler,
  type EventMessage,
  type Mesh,
  serve,
  type Service,
} from "@nuropb/mesh";
import { afterAll, beforeAll, it } from "@std/testing/bdd";
import { uniqueName } from "../support/env.ts";
import { PythonPeer } from "./python_peer.ts";
import { brokerUrl, describeWithPython, Inbox, inTime, newTrace, receivedBy } from "./support.ts";

/** An event that a handler of ours got. */
interface Heard {
  readonly pattern: string;
  readonly event: unknown;
  readonly raw: unknown;
}

/** Topics are the whole mesh's: the first word makes them this file's own. */
const first = uniqueName("topic");

describeWithPython("events between Python and ours", () => {
  const inboxes = new Map<string | null, Inbox<Heard>>();
  let python: PythonPeer;
  let mesh: Mesh;
  let service: Service;

  /** What the service of ours is told of under a trace. */
  const heard = (traceId: string | null): Inbox<Heard> => {
    const inbox = inboxes.get(traceId) ?? new Inbox<Heard>();
    inboxes.set(traceId, inbox);
    return inbox;
  };

  beforeAll(async () => {
    const listener = (pattern: string): [string, EventHandler] => [
      pattern,
      (event, { raw, traceId }) => heard(traceId).put({ pattern, event, raw }),
    ];
    [python, mesh, service] = await Promise.all([
      PythonPeer.start({
        url: brokerUrl(),
        service: uniqueName("listener"),
        events: [`${first}.*.created`, `${first}.audit.#`],
      }),
      connect(brokerUrl()),
      serve({}, {
        url: brokerUrl(),
        name: uniqueName("listener-ts"),
        events: Object.fromEntries([listener(`${first}.*.paid`), listener(`${first}.log.#`)]),
      }),
    ]);
  });

  afterAll(async () => {
    await python?.close();
    await mesh?.close();
    await service?.close();
  });

  /** The topics that the Python service was told of under a trace. */
  const toldPython = async (traceId: string) =>
    (await receivedBy(python, mesh, traceId)).map(({ payload }) =>
      String(payload["topic"]).slice(first.length + 1)
    );

  it("come to a Python service by its wildcards, in their order, and no others do", async () => {
    const traceId = newTrace();
    const topics = [
      "orders.created",
      "a.b.created",
      "orders.paid",
      "audit",
      "audit.a",
      "audit.a.b.c",
      "created",
    ];
    for (const topic of topics) await mesh.publish(`${first}.${topic}`, { topic }, { traceId });
    assert.deepEqual(await toldPython(traceId), ["orders.created", "audit", "audit.a", "audit.a.b.c"]);
  });

  it("come to a Python service with payload, context, trace and target", async () => {
    const traceId = newTrace();
    const options = { traceId, context: { u: 1 }, target: ["Ann", "Bob"] };
    const payloads = [{ id: 1, text: "✓" }, [1, null], "text", 0, null];
    for (const payload of payloads) await mesh.publish(`${first}.audit`, payload, options);
    const events = await receivedBy(python, mesh, traceId);
    assert.deepEqual(events.map(({ payload }) => payload["event"]), payloads);
    for (const { type, payload, trace_id } of events) {
      assert.deepEqual([type, trace_id, payload["trace_id"]], ["event", traceId, traceId]);
      assert.deepEqual([payload["context"], payload["target"]], [{ u: 1 }, ["Ann", "Bob"]]);
    }
  });

  it("that a Python handler refuses do not stop those behind them", async () => {
    const traceId = newTrace();
    await mesh.publish(`${first}.audit.bad`, { fail: true }, { traceId });
    await mesh.publish(`${first}.audit.good`, {}, { traceId });
    assert.deepEqual(await toldPython(traceId), ["audit.bad", "audit.good"]);
  });

  it("emitted by a method of ours come to a Python service under the caller's trace", async () => {
    await using emitter = await serve({
      go: (_params: unknown, ctx: Context) => ctx.emit(`${first}.emitted.created`, { id: 3 }),
    }, { url: brokerUrl(), name: uniqueName("emitter") });
    const traceId = newTrace();
    await python.request(emitter.name, "go", {}, { traceId });
    assert.deepEqual(await toldPython(traceId), ["emitted.created"]);
  });

  it("come from Python to a service of ours by its wildcards, with payload, context and trace", async () => {
    const traceId = newTrace();
    const options = { context: { u: 1 }, traceId };
    for (const topic of ["orders.paid", "orders.a.paid", "log", "orders.created", "log.a.b"]) {
      await python.publish(`${first}.${topic}`, { topic }, options);
    }
    for (const [pattern, topic] of [["*.paid", "orders.paid"], ["log.#", "log"], ["log.#", "log.a.b"]]) {
      assert.deepEqual(await heard(traceId).next(), {
        pattern: `${first}.${pattern}`,
        event: { topic },
        raw: { u: 1 },
      });
    }
    assert.equal(heard(traceId).size, 0);
  });

  it("come from Python without a trace id, and of any type", async () => {
    for (const event of ["text", 1.5, [1, 2], null, false]) {
      await python.publish(`${first}.log`, event);
      assert.deepEqual(await heard(null).next(), { pattern: `${first}.log.#`, event, raw: {} });
    }
  });

  it("come from Python to every subscription of ours that takes the topic", async () => {
    await using narrow = mesh.subscribe(`${first}.*.paid`);
    await using wide = mesh.subscribe([`${first}.#`]);
    await Promise.all([narrow.ready, wide.ready]);
    const traceId = newTrace();
    for (const topic of ["orders.paid", "x", "refunds.paid"]) {
      await python.publish(`${first}.${topic}`, { topic }, { traceId });
    }
    const next = async (subscription: AsyncIterator<EventMessage>) => {
      const { value } = await inTime("the next event", subscription.next());
      const { topic, event, target, ctx } = value as EventMessage<unknown, Context>;
      assert.deepEqual([event, target, ctx.traceId], [
        { topic: topic.slice(first.length + 1) },
        null,
        traceId,
      ]);
      return topic.slice(first.length + 1);
    };
    assert.deepEqual([await next(wide), await next(wide), await next(wide)], [
      "orders.paid",
      "x",
      "refunds.paid",
    ]);
    assert.deepEqual([await next(narrow), await next(narrow)], ["orders.paid", "refunds.paid"]);
    // They came to the service of ours as well.
    for (const topic of ["orders.paid", "refunds.paid"]) {
      assert.deepEqual((await heard(traceId).next()).event, { topic });
    }
  });

  it("that a Python method sends with NuropbSuccess come to ours, under the caller's trace", async () => {
    await using done = mesh.subscribe<{ id: number }>(`${first}.done`);
    await done.ready;
    const traceId = newTrace();
    const topic = `${first}.done`;
    const result = await mesh.request(python.service, "success", { topic }, { traceId, context: { u: 2 } });
    assert.deepEqual(result, { ok: 1 });
    const { value } = await inTime("the event", done.next());
    assert.deepEqual([value?.topic, value?.event, value?.ctx.traceId, value?.ctx.raw], [
      topic,
      { id: 9 },
      traceId,
      { u: 2 },
    ]);
  });
});
