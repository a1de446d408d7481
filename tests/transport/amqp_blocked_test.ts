import assert from "node:assert/strict";
import { connect } from "@nuropb/mesh";
import type { Mesh, MeshStatus } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import {
  FakeBroker,
  method,
  noticeRejections,
  nuropb,
  openConnection,
  plain,
  soon,
  until,
} from "./fake_broker.ts";
import type { Session } from "./fake_broker.ts";

const block = (session: Session, reason = "low on memory") =>
  session.send(method(0, "connection.blocked", { reason }));
const unblock = (session: Session) => session.send(method(0, "connection.unblocked"));

/** A mesh whose broker takes nothing. */
async function blocked(
  broker: FakeBroker,
  options: { connectTimeout?: number; confirmTimeout?: number } = {},
) {
  const mesh = await connect(broker.url, options);
  const statuses: MeshStatus[] = [];
  mesh.addEventListener("status", ({ detail }) => statuses.push(detail));
  block(broker.session);
  await until(() => statuses.length === 1);
  return { mesh, statuses };
}

/** Lets a broker's answer to something come and go: what was sent before it has come in by then. */
async function heard(mesh: Mesh, session: Session): Promise<void> {
  const events = mesh.status;
  assert.equal(events.state, "open");
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(session.closed, false);
}

describe("a broker that takes no messages for now", () => {
  noticeRejections();

  it("shows in the status, with its reason, until it takes them again", async () => {
    await using broker = await FakeBroker.start();
    const { mesh, statuses } = await blocked(broker);
    assert.deepEqual(mesh.status, { state: "open", blocked: "low on memory" });
    unblock(broker.session);
    await until(() => statuses.length === 2);
    assert.deepEqual(statuses, [{ state: "open", blocked: "low on memory" }, { state: "open" }]);
    await mesh.close();
  });

  it("gets what was asked for meanwhile afterwards, and all of it once", async () => {
    await using broker = await FakeBroker.start();
    const { mesh } = await blocked(broker);
    const answers = Array.from({ length: 10 }, (_, n) => mesh.request("shop", "order", { n }, plain));
    const taken = [mesh.publish("orders.created", 1), mesh.command("shop", "order", {}, plain)];
    const ready = mesh.ready();
    await heard(mesh, broker.session);
    assert.equal(broker.session.published.length, 0);
    unblock(broker.session);
    assert.deepEqual(await soon(Promise.all(answers)), Array(10).fill("pong"));
    await soon(Promise.all([...taken, ready]));
    assert.equal(broker.session.published.length, 12);
    await mesh.close();
  });

  it("gets requests with the time that they have left", async () => {
    await using broker = await FakeBroker.start();
    const { mesh } = await blocked(broker);
    const answer = mesh.request("shop", "order", {}, { ...plain, ttl: 5_000 });
    await heard(mesh, broker.session);
    unblock(broker.session);
    await soon(answer);
    const left = Number(broker.session.published[0]!.properties.expiration);
    assert.ok(left > 0 && left <= 4_985, `${left} ms`);
    await mesh.close();
  });

  it("never gets a request that expired or was aborted meanwhile", async () => {
    await using broker = await FakeBroker.start();
    const { mesh } = await blocked(broker);
    const controller = new AbortController();
    const aborted = mesh.request("shop", "order", {}, { ...plain, signal: controller.signal });
    const event = mesh.publish("orders.created", 1, { signal: controller.signal });
    const expired = mesh.request("shop", "order", {}, { ...plain, ttl: 10 });
    controller.abort(new Error("enough"));
    await assert.rejects(soon(aborted), { message: "enough" });
    await assert.rejects(soon(event), { message: "enough" });
    await assert.rejects(soon(expired), { code: "TIMEOUT" });
    unblock(broker.session);
    assert.equal(await soon(mesh.request("shop", "order", {}, plain)), "pong");
    assert.equal(broker.session.published.length, 1);
    await mesh.close();
  });

  it("may answer and deliver all the same", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url);
    broker.on("basic.publish", () => {});
    const events = mesh.subscribe("orders.*");
    await events.ready;
    const answer = mesh.request("shop", "order", {}, plain);
    await until(() => broker.session.published.length === 1);
    block(broker.session);
    broker.session.answer(broker.session.published[0]!, "late");
    broker.session.deliver(
      broker.session.subscription,
      nuropb("event", { topic: "orders.created", event: 7 }),
    );
    assert.equal(await soon(answer), "late");
    assert.equal((await soon(events.next())).value?.event, 7);
  });

  it("may take longer than connectTimeout to answer, as it does not even read", async () => {
    await using broker = await FakeBroker.start();
    const { connection, closes } = await openConnection(broker);
    let answer = () => {};
    broker.once("exchange.declare", (_step, next) => answer = next);
    const declared = connection.declare([{ kind: "exchange", name: "x", type: "topic" }]);
    await until(() => broker.session.all("exchange.declare").length === 1);
    block(broker.session);
    // Longer than the 1000 ms that it has for each answer.
    await new Promise((resolve) => setTimeout(resolve, 1_200));
    assert.deepEqual(closes, []);
    unblock(broker.session);
    answer();
    await soon(declared);
    await connection.close();
  });

  it("has the full time to answer again once it takes messages, and no more", async () => {
    await using broker = await FakeBroker.start();
    const { connection, closes } = await openConnection(broker);
    broker.once("exchange.declare", () => {});
    const declared = connection.declare([{ kind: "exchange", name: "x", type: "topic" }]);
    declared.catch(() => {});
    await until(() => broker.session.all("exchange.declare").length === 1);
    block(broker.session);
    unblock(broker.session);
    await assert.rejects(soon(declared), { code: "TIMEOUT" });
    assert.equal(closes.length, 1);
  });

  it("and that is lost then, keeps nobody waiting: another connection takes what waits", async () => {
    await using broker = await FakeBroker.start();
    const { mesh, statuses } = await blocked(broker);
    const waiting = [
      mesh.ready(),
      mesh.publish("orders.created", 1),
      mesh.command("shop", "order", {}, plain),
      mesh.subscribe("orders.*").ready,
      mesh.request("shop", "order", {}, plain),
    ];
    await heard(mesh, broker.session);
    broker.session.drop();
    await soon(Promise.all(waiting));
    assert.deepEqual(statuses.at(-1), { state: "open" });
    assert.equal(broker.session.published.length, 3);
    await mesh.close();
  });

  it("and that closes the channel of requests then, keeps nobody waiting either", async () => {
    await using broker = await FakeBroker.start();
    const { mesh } = await blocked(broker);
    const waiting = [
      mesh.ready(),
      mesh.publish("orders.created", 1),
      mesh.request("shop", "order", {}, plain),
    ];
    await heard(mesh, broker.session);
    const { channel } = broker.session.consumers.get("amq.rabbitmq.reply-to")!;
    broker.session.send(method(channel, "channel.close", { code: 406, text: "PRECONDITION_FAILED - no" }));
    await until(() => broker.session.all("basic.consume").length === 2);
    await heard(mesh, broker.session);
    assert.equal(broker.session.published.length, 0);
    unblock(broker.session);
    await soon(Promise.all(waiting));
    await mesh.close();
  });

  it("can be left: what waits is told that the mesh was closed", async () => {
    await using broker = await FakeBroker.start();
    const { mesh } = await blocked(broker);
    const waiting = [
      mesh.ready(),
      mesh.publish("orders.created", 1),
      mesh.command("shop", "order", {}, plain),
      mesh.request("shop", "order", {}, plain),
    ].map((promise) => assert.rejects(soon(promise), { code: "CLOSED" }));
    await soon(mesh.close());
    await Promise.all(waiting);
    assert.equal(broker.session.published.length, 0);
  });

  it("shows in the status from the beginning, when it was so before the connection was open", async () => {
    await using broker = await FakeBroker.start();
    broker.once("basic.consume", ({ session }, next) => {
      block(session);
      next();
    });
    const mesh = await connect(broker.url);
    assert.deepEqual(mesh.status, { state: "open", blocked: "low on memory" });
    const answer = mesh.request("shop", "order", {}, plain);
    await heard(mesh, broker.session);
    assert.equal(broker.session.published.length, 0);
    unblock(broker.session);
    assert.equal(await soon(answer), "pong");
    assert.deepEqual(mesh.status, { state: "open" });
    await mesh.close();
  });

  it("may say so over and over", async () => {
    await using broker = await FakeBroker.start();
    const { mesh, statuses } = await blocked(broker);
    const waiting = [mesh.ready(), mesh.publish("orders.created", 1)];
    block(broker.session, "low on disk");
    await until(() => statuses.length === 2);
    unblock(broker.session);
    block(broker.session, "low on memory");
    unblock(broker.session);
    await soon(Promise.all(waiting));
    assert.equal(await soon(mesh.request("shop", "order", {}, plain)), "pong");
    assert.equal(broker.session.published.length, 2);
    await mesh.close();
  });
});

describe("the channel that requests leave on, while it is opened anew,", () => {
  noticeRejections();

  it("gets no request that was aborted or expired meanwhile, and the others once", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url);
    let opened = () => {};
    broker.once("basic.consume", (_step, next) => opened = next);
    const { channel } = broker.session.consumers.get("amq.rabbitmq.reply-to")!;
    broker.session.send(method(channel, "channel.close", { code: 406, text: "PRECONDITION_FAILED - no" }));
    await until(() => broker.session.all("basic.consume").length === 2);
    const controller = new AbortController();
    const aborted = mesh.request("shop", "order", {}, { ...plain, signal: controller.signal });
    const expired = mesh.request("shop", "order", {}, { ...plain, ttl: 10 });
    const answer = mesh.request("shop", "order", {}, plain);
    controller.abort(new Error("enough"));
    await assert.rejects(soon(aborted), { message: "enough" });
    await assert.rejects(soon(expired), { code: "TIMEOUT" });
    assert.equal(mesh.status.state, "open");
    opened();
    assert.equal(await soon(answer), "pong");
    assert.equal(broker.session.published.length, 1);
  });
});
