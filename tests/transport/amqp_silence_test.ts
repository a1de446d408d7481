import assert from "node:assert/strict";
import { connect, NuropbException, serve } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { FakeBroker, noticeRejections, nuropb, plain, soon, until } from "./fake_broker.ts";
import type { StepName } from "./fake_broker.ts";

/** How long an operation took, in ms. */
async function timed(operation: Promise<unknown>): Promise<number> {
  const start = performance.now();
  await operation;
  return performance.now() - start;
}

describe("a broker that leaves one method without an answer", () => {
  noticeRejections();

  const subscribing: readonly StepName[] = [
    "channel.open",
    "exchange.declare",
    "queue.declare",
    "queue.bind",
    "channel.close",
    "basic.qos",
    "basic.consume",
  ];
  for (const step of subscribing) {
    it(`loses its connection, and a subscription comes about on the next one: ${step}`, async () => {
      await using broker = await FakeBroker.start();
      await using mesh = await connect(broker.url, { connectTimeout: 60 });
      broker.once(step, () => {});
      const orders = mesh.subscribe("orders.*");
      await soon(orders.ready);
      assert.equal(broker.sessions.length, 2);
      broker.session.deliver(
        broker.session.subscription,
        nuropb("event", { topic: "orders.created", event: 1 }),
      );
      assert.equal((await soon(orders.next())).value?.topic, "orders.created");
    });
  }

  for (const step of ["channel.open", "queue.declare", "basic.consume"] as const) {
    it(`loses its connection, and a service comes about on the next one: ${step}`, async () => {
      await using broker = await FakeBroker.start();
      await using mesh = await connect(broker.url, { connectTimeout: 60 });
      broker.once(step, () => {});
      await using _service = await serve({ order: () => 1 }, { mesh, name: "shop" });
      assert.equal(broker.sessions.length, 2);
      assert.ok(broker.session.consumers.has("nuropb-shop-sq"));
    });
  }

  for (const step of ["channel.open", "confirm.select"] as const) {
    it(`loses its connection, and a command leaves on the next one: ${step}`, async () => {
      await using broker = await FakeBroker.start();
      await using mesh = await connect(broker.url, { connectTimeout: 60 });
      broker.once(step, () => {});
      await mesh.command("shop", "order", {}, plain);
      assert.equal(broker.sessions.length, 2);
      assert.equal(broker.session.published.length, 1);
    });
  }

  it("does not lose its connection for a confirm or an answer that does not come", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url, { connectTimeout: 50, confirmTimeout: 60 });
    broker.on("basic.publish", () => {});
    const timeout = { name: "NuropbTimeoutError", code: "TIMEOUT" };
    await assert.rejects(mesh.command("shop", "order", {}, plain), timeout);
    await assert.rejects(mesh.publish("orders.created", 1), timeout);
    await assert.rejects(mesh.request("shop", "order", {}, { ...plain, ttl: 60 }), timeout);
    broker.off("basic.publish");
    await mesh.command("shop", "order", {}, plain);
    assert.equal(broker.sessions.length, 1);
  });

  it("drops late confirms of messages that were given up", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url, { confirmTimeout: 30 });
    let late = () => {};
    broker.once("basic.publish", (_step, next) => late = next);
    await assert.rejects(mesh.publish("orders.created", 1), { code: "TIMEOUT" });
    late();
    await mesh.publish("orders.created", 2);
  });
});

describe("closing, with a broker that does not answer", () => {
  noticeRejections();

  it("ends a mesh within two and a half seconds, and what waits with it", async () => {
    await using broker = await FakeBroker.start();
    broker.on("basic.publish", () => {});
    broker.on("connection.close", () => {});
    const mesh = await connect(broker.url);
    const states: string[] = [];
    mesh.addEventListener("status", ({ detail }) => states.push(detail.state));
    const waiting = [
      mesh.request("shop", "order", {}, plain),
      mesh.command("shop", "order", {}, plain),
      mesh.publish("orders.created", 1),
    ].map((operation) => operation.then(() => "", (error: unknown) => (error as NuropbException).code));
    await until(() => broker.session.published.length === 3);
    const closing = mesh.close();
    const [answer, elapsed] = await Promise.all([timed(waiting[0]!), timed(closing)]);
    // No answer can be of use any more, while a confirm may still come in.
    assert.ok(answer < 500, `${answer} ms`);
    assert.ok(elapsed < 2_500, `${elapsed} ms`);
    assert.deepEqual(await Promise.all(waiting), ["CLOSED", "CLOSED", "CLOSED"]);
    assert.deepEqual(states, ["closing", "closed"]);
    await until(() => broker.session.closed);
  });

  for (const step of ["basic.cancel", "channel.close"] as const) {
    it(`ends a service after connectTimeout: ${step}`, async () => {
      await using broker = await FakeBroker.start();
      const service = await serve({ order: () => 1 }, { url: broker.url, name: "shop", connectTimeout: 60 });
      broker.on(step, () => {});
      const elapsed = await timed(service.close());
      assert.ok(elapsed < 1_000, `${elapsed} ms`);
      await until(() => broker.sessions.every(({ closed }) => closed));
    });
  }

  it("ends a subscription after connectTimeout", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url, { connectTimeout: 60 });
    const orders = mesh.subscribe("orders.*");
    await orders.ready;
    broker.on("channel.close", () => {});
    const elapsed = await timed(orders.close());
    assert.ok(elapsed < 1_000, `${elapsed} ms`);
    assert.deepEqual(await orders.next(), { done: true, value: undefined });
    broker.off("channel.close");
  });
});
