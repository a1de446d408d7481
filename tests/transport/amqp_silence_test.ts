import assert from "node:assert/strict";
import { connect, NuropbException, serve } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { FakeBroker, noticeRejections, nuropb, plain, soon, together, until } from "./fake_broker.ts";
import type { StepName } from "./fake_broker.ts";

/** Enough for a connection on a busy machine, in ms. */
const connectTimeout = 700;

/** How long an operation took, in ms. */
async function timed(operation: Promise<unknown>): Promise<number> {
  const start = performance.now();
  await operation;
  return performance.now() - start;
}

function forEach(steps: readonly StepName[], what: string, test: (step: StepName) => Promise<void>) {
  return Object.fromEntries(steps.map((step) => [`${what}: ${step}`, () => test(step)]));
}

async function subscribes(step: StepName): Promise<void> {
  await using broker = await FakeBroker.start();
  await using mesh = await connect(broker.url, { connectTimeout });
  broker.once(step, () => {});
  const orders = mesh.subscribe("orders.*");
  await soon(orders.ready);
  assert.equal(broker.sessions.length, 2);
  const { session } = broker;
  session.deliver(session.subscription, nuropb("event", { topic: "orders.created", event: 1 }));
  assert.equal((await soon(orders.next())).value?.topic, "orders.created");
}

async function serves(step: StepName): Promise<void> {
  await using broker = await FakeBroker.start();
  await using mesh = await connect(broker.url, { connectTimeout });
  broker.once(step, () => {});
  await using _service = await soon(serve({ order: () => 1 }, { mesh, name: "shop" }));
  assert.equal(broker.sessions.length, 2);
  assert.ok(broker.session.consumers.has("nuropb-shop-sq"));
}

async function commands(step: StepName): Promise<void> {
  await using broker = await FakeBroker.start();
  await using mesh = await connect(broker.url, { connectTimeout });
  broker.once(step, () => {});
  await soon(mesh.command("shop", "order", {}, plain));
  assert.equal(broker.sessions.length, 2);
  assert.equal(broker.session.published.length, 1);
}

const declaring: readonly StepName[] = ["channel.open", "exchange.declare", "queue.declare", "queue.bind"];
const consuming: readonly StepName[] = ["channel.close", "basic.qos", "basic.consume"];

describe("a broker that leaves one method without an answer loses its connection, and on the next one", () => {
  noticeRejections();
  together({
    ...forEach([...declaring, ...consuming], "a subscription comes about", subscribes),
    ...forEach([...declaring, ...consuming], "a service comes about", serves),
    ...forEach(["channel.open", "confirm.select"], "a command leaves", commands),
  });
});

describe("a broker that leaves a message without an answer", () => {
  noticeRejections();

  it("does not lose its connection", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url, { connectTimeout, confirmTimeout: 250 });
    broker.on("basic.publish", () => {});
    const timeout = { name: "NuropbTimeoutError", code: "TIMEOUT" };
    await Promise.all([
      assert.rejects(mesh.command("shop", "order", {}, plain), timeout),
      assert.rejects(mesh.publish("orders.created", 1), timeout),
      assert.rejects(mesh.request("shop", "order", {}, { ...plain, ttl: 250 }), timeout),
    ]);
    broker.off("basic.publish");
    await mesh.command("shop", "order", {}, plain);
    assert.equal(broker.sessions.length, 1);
  });

  it("may confirm it when it was given up already", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url, { confirmTimeout: 250 });
    let late = () => {};
    broker.once("basic.publish", (_step, next) => late = next);
    await assert.rejects(mesh.publish("orders.created", 1), { code: "TIMEOUT" });
    late();
    await mesh.publish("orders.created", 2);
  });
});

async function closesMesh(): Promise<void> {
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
}

async function closesService(step: StepName): Promise<void> {
  await using broker = await FakeBroker.start();
  const service = await serve({ order: () => 1 }, { url: broker.url, name: "shop", connectTimeout });
  broker.on(step, () => {});
  const elapsed = await timed(service.close());
  assert.ok(elapsed < connectTimeout + 1_000, `${elapsed} ms`);
  await until(() => broker.sessions.every(({ closed }) => closed));
}

async function closesSubscription(): Promise<void> {
  await using broker = await FakeBroker.start();
  await using mesh = await connect(broker.url, { connectTimeout });
  const orders = mesh.subscribe("orders.*");
  await orders.ready;
  broker.once("channel.close", () => {});
  const elapsed = await timed(orders.close());
  assert.ok(elapsed < connectTimeout + 1_000, `${elapsed} ms`);
  assert.deepEqual(await orders.next(), { done: true, value: undefined });
}

describe("closing, with a broker that does not answer,", () => {
  noticeRejections();
  together({
    "ends a mesh within two and a half seconds, and what waits with it": closesMesh,
    ...forEach(["basic.cancel", "channel.close"], "ends a service after connectTimeout", closesService),
    "ends a subscription after connectTimeout": closesSubscription,
  });
});
