import assert from "node:assert/strict";
import { connect, NuropbTransportError, serve } from "@nuropb/mesh";
import type { Mesh } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { FakeBroker, method, noticeRejections, nuropb, plain, soon, until } from "./fake_broker.ts";

const queue = "nuropb-shop-sq";

/** Has the broker keep every new connection waiting, until the given function lets them in. */
function away(broker: FakeBroker): () => void {
  const waiting: (() => void)[] = [];
  broker.on("header", (_step, next) => void waiting.push(next));
  return () => {
    broker.off("header");
    for (const next of waiting) next();
  };
}

function statesOf(mesh: Mesh): string[] {
  const states: string[] = [];
  mesh.addEventListener(
    "status",
    ({ detail }) => states.push("attempt" in detail ? `${detail.state} ${detail.attempt}` : detail.state),
  );
  return states;
}

describe("a mesh whose connection was lost", () => {
  noticeRejections();

  it("tells each step back, in order", async () => {
    await using broker = await FakeBroker.start();
    const mesh = await connect(broker.url);
    const states = statesOf(mesh);
    // Each attempt shakes hands twice: all at once, and step by step.
    let drops = 4;
    broker.on("header", ({ session }, next) => drops-- > 0 ? session.drop() : next());
    broker.session.drop();
    await until(() => states.at(-1) === "open");
    await mesh.close();
    assert.deepEqual(states, [
      "waiting 1",
      "connecting 1",
      "waiting 2",
      "connecting 2",
      "waiting 3",
      "connecting 3",
      "open",
      "closing",
      "closed",
    ]);
  });

  it("waits longer each time, and tells why", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url);
    const waits: [attempt: number, delay: number][] = [];
    const reasons: string[] = [];
    mesh.addEventListener("status", ({ detail }) => {
      if (detail.state !== "waiting") return;
      waits.push([detail.attempt, detail.delay]);
      assert.ok(detail.error instanceof NuropbTransportError);
      reasons.push(detail.error.message);
    });
    broker.on(
      "connection.start-ok",
      ({ session }) =>
        session.send(
          method(0, "connection.close", { code: 403, text: "ACCESS_REFUSED - changed meanwhile" }),
        ),
    );
    broker.session.drop();
    await until(() => waits.length === 3);
    broker.off("connection.start-ok");
    for (const [attempt, delay] of waits) {
      const longest = 100 * 2 ** (attempt - 1);
      assert.ok(delay >= longest / 2 && delay <= longest, `${delay} ms before attempt ${attempt}`);
    }
    assert.match(reasons[0]!, /lost/);
    assert.match(reasons[1]!, /changed meanwhile/);
    await mesh.ready();
  });

  it("sends what waited for it, once it is back", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url);
    const back = away(broker);
    broker.session.drop();
    await until(() => mesh.status.state !== "open");
    const waiting = [
      mesh.request("shop", "order", {}, plain),
      mesh.command("shop", "order", {}, plain),
      mesh.publish("orders.created", 1),
    ];
    const orders = mesh.subscribe("orders.*");
    const serving = serve({ order: () => 1 }, { mesh, name: "shop" });
    await until(() => broker.sessions.length === 2);
    back();
    assert.deepEqual(await Promise.all(waiting), ["pong", undefined, undefined]);
    await orders.ready;
    await serving;
    assert.equal(broker.session.published.length, 3);
    assert.equal(broker.session.consumers.size, 3);
  });

  it("fails what waits at its own deadline or signal, and never sends it", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url, { confirmTimeout: 40 });
    const back = away(broker);
    broker.session.drop();
    await until(() => mesh.status.state !== "open");
    const controller = new AbortController();
    const { signal } = controller;
    const aborted = [
      mesh.request("shop", "order", {}, { ...plain, signal }),
      mesh.command("shop", "order", {}, { ...plain, signal }),
      mesh.publish("orders.created", 1, { signal }),
      mesh.ready({ signal }),
      serve({ order: () => 1 }, { mesh, name: "shop", signal }),
    ];
    controller.abort(new Error("enough"));
    for (const operation of aborted) await assert.rejects(operation, { message: "enough" });
    const timeout = { name: "NuropbTimeoutError", code: "TIMEOUT" };
    await assert.rejects(mesh.request("shop", "order", {}, { ...plain, ttl: 40 }), timeout);
    await assert.rejects(mesh.command("shop", "order", {}, plain), timeout);
    await assert.rejects(mesh.publish("orders.created", 1), timeout);
    await until(() => broker.sessions.length === 2);
    back();
    assert.equal(await mesh.request("shop", "order", {}, plain), "pong");
    assert.equal(broker.session.published.length, 1);
    assert.equal(broker.session.consumers.size, 1);
  });

  it("lets no more than maxPending wait", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url, { maxPending: 2 });
    const back = away(broker);
    broker.session.drop();
    await until(() => mesh.status.state !== "open");
    const calls = [
      () => mesh.request("shop", "order", {}, plain),
      () => mesh.command("shop", "order", {}, plain),
    ];
    const waiting = calls.flatMap((call) => [call(), call()]);
    for (const call of calls) {
      await assert.rejects(call(), { name: "NuropbTransportError", code: "TOO_MANY_PENDING" });
    }
    await until(() => broker.sessions.length === 2);
    back();
    assert.deepEqual(await Promise.all(waiting), ["pong", "pong", undefined, undefined]);
    for (const call of calls) await call();
  });

  it("can be closed while it waits and while it connects, and fails what waits", async () => {
    for (const state of ["waiting", "connecting"]) {
      await using broker = await FakeBroker.start();
      const mesh = await connect(broker.url);
      const states = statesOf(mesh);
      away(broker);
      broker.session.drop();
      await until(() => mesh.status.state === state);
      const waiting = [
        mesh.request("shop", "order", {}, plain),
        mesh.command("shop", "order", {}, plain),
        mesh.subscribe("orders.*").ready,
        mesh.ready(),
      ];
      const refused = waiting.map((operation) => assert.rejects(soon(operation), { code: "CLOSED" }));
      const start = performance.now();
      await mesh.close();
      assert.ok(performance.now() - start < 500);
      await Promise.all(refused);
      assert.deepEqual(states.slice(-2), ["closing", "closed"]);
      await until(() => broker.sessions.every(({ closed }) => closed));
    }
  });

  it("comes back even when its logger throws", async () => {
    await using broker = await FakeBroker.start();
    const fail = () => {
      throw new Error("The disk of the log is full");
    };
    const logger = { debug: fail, info: fail, warn: fail, error: fail };
    await using mesh = await connect(broker.url, { logger });
    await using _service = await serve({ order: () => 1 }, { mesh, name: "shop", logger });
    // A message that cannot be read is logged, and so is a loss.
    broker.session.deliver(queue, { body: "?" });
    await until(() => broker.session.all("basic.reject").length === 1);
    broker.session.drop();
    await until(() => broker.sessions.length === 2 && broker.session.consumers.has(queue));
    await soon(mesh.ready());
    assert.equal(await mesh.request("shop", "order", {}, plain), "pong");
  });

  it("says that it is closed, once it is", async () => {
    await using broker = await FakeBroker.start();
    const mesh = await connect(broker.url);
    await mesh.close();
    const closed = { name: "NuropbTransportError", code: "CLOSED" };
    await assert.rejects(mesh.request("shop", "order", {}, plain), closed);
    await assert.rejects(mesh.command("shop", "order", {}, plain), closed);
    await assert.rejects(mesh.publish("orders.created", 1), closed);
    await assert.rejects(mesh.subscribe("orders.*").ready, closed);
    await assert.rejects(mesh.ready(), closed);
    await assert.rejects(serve({ order: () => 1 }, { mesh, name: "shop" }), closed);
    await mesh.close();
  });

  it("gives no event and no message of the time before twice to anyone", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url);
    const handled: unknown[] = [];
    const order = ({ number }: { number: number }) => void handled.push(number);
    await using _service = await serve({ order }, { mesh, name: "shop" });
    const orders = mesh.subscribe("orders.*");
    await orders.ready;
    for (let round = 1; round <= 3; round++) {
      const { session } = broker;
      session.deliver(
        queue,
        nuropb("command", { service: "shop", method: "order", params: { number: round } }),
      );
      session.deliver(session.subscription, nuropb("event", { topic: "orders.created", event: round }));
      assert.equal((await soon(orders.next())).value?.event, round);
      await until(() => session.acked.length === 2);
      session.drop();
      await until(() => broker.sessions.length === round + 1 && broker.session.consumers.size === 3);
    }
    assert.deepEqual(handled, [1, 2, 3]);
    // One consumer of each, on every connection.
    for (const session of broker.sessions) assert.equal(session.all("basic.consume").length, 3);
  });
});

describe("a mesh with the urls of a cluster", () => {
  noticeRejections();

  it("tries each of them once at first, in turn", async () => {
    await using first = await FakeBroker.start();
    await using second = await FakeBroker.start();
    for (const broker of [first, second]) broker.on("header", ({ session }) => session.drop());
    await assert.rejects(connect([first.url, second.url]), NuropbTransportError);
    // Each is asked all at once, and then step by step.
    assert.deepEqual([first.sessions.length, second.sessions.length], [2, 2]);
    second.off("header");
    await using mesh = await connect([first.url, second.url]);
    assert.deepEqual([first.sessions.length, second.sessions.length], [4, 3]);
    assert.equal(await mesh.request("shop", "order", {}, plain), "pong");
  });

  it("gives up on all of them within connectTimeout when none of them answers", async () => {
    const brokers = await Promise.all([1, 2, 3].map(() => FakeBroker.start()));
    for (const broker of brokers) broker.on("header", () => {});
    const start = performance.now();
    const connecting = connect(brokers.map(({ url }) => url), { connectTimeout: 900 });
    await assert.rejects(connecting, { code: "CONNECT_FAILED" });
    const elapsed = performance.now() - start;
    assert.ok(elapsed < 1_200, `${elapsed} ms`);
    // Each had its turn.
    assert.deepEqual(brokers.map(({ sessions }) => sessions.length), [1, 1, 1]);
    for (const broker of brokers) await broker[Symbol.asyncDispose]();
  });

  it("goes on to the next one when one is lost, and sets its consumers up there", async () => {
    await using first = await FakeBroker.start();
    await using second = await FakeBroker.start();
    await using service = await serve({ order: () => 1 }, { url: [first.url, second.url], name: "shop" });
    assert.deepEqual([first.sessions.length, second.sessions.length], [1, 0]);
    first.session.drop();
    await until(() => second.sessions.length === 1 && second.session.consumers.has(queue));
    await service.mesh.ready();
    second.session.drop();
    await until(() => first.sessions.length === 2 && first.session.consumers.has(queue));
  });
});

describe("a consumer that cannot be set up on a new connection", () => {
  noticeRejections();

  it("is tried again there, however long the others take", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url);
    await using _shop = await serve({ order: () => 1 }, { mesh, name: "shop" });
    await using _bank = await serve({ pay: () => 1 }, { mesh, name: "bank" });
    let refused = 0;
    broker.on("queue.declare", ({ session, channel, fields }, next) => {
      if (fields.queue !== queue || refused++ > 0) return next();
      session.send(method(channel, "channel.close", { code: 405, text: "RESOURCE_LOCKED" }));
    });
    broker.on("basic.consume", ({ fields }, next) => {
      // Longer than the first delay before a consumer is set up again.
      if (fields.queue === "nuropb-bank-sq") setTimeout(next, 200);
      else next();
    });
    broker.session.drop();
    await until(() => broker.sessions.length === 2 && broker.session.consumers.has("nuropb-bank-sq"));
    await until(() => broker.session.consumers.has(queue));
    assert.equal(refused, 2);
  });

  it("is set up once, though the broker's goodbye closes its channel first", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url);
    await using _service = await serve({ order: () => 1 }, { mesh, name: "shop" });
    // No word of a lost connection: to a channel alone it would mean that its consumer is to be set up again.
    broker.session.send(method(0, "connection.close", { code: 541, text: "INTERNAL_ERROR" }));
    await until(() => broker.sessions.length === 2 && broker.session.consumers.has(queue));
    // The longest that the first attempt may wait, and a little more.
    await new Promise((resolve) => setTimeout(resolve, 150));
    assert.equal(broker.session.all("basic.consume").length, 2);
  });

  it("is set up once, though it was to be set up again when the connection was lost", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url);
    await using _service = await serve({ order: () => 1 }, { mesh, name: "shop" });
    const { session } = broker;
    // Refused often enough for the next delay to be longer than a reconnection takes.
    let refusals = 0;
    broker.on("queue.declare", (step, next) => {
      if (step.session !== session || step.fields.queue !== queue) return next();
      refusals++;
      step.session.send(method(step.channel, "channel.close", { code: 405, text: "RESOURCE_LOCKED" }));
    });
    const { channel } = session.consumers.get(queue)!;
    session.send(method(channel, "channel.close", { code: 406, text: "PRECONDITION_FAILED - timeout" }));
    await until(() => refusals === 2);
    session.drop();
    await until(() => broker.sessions.length === 2 && broker.session.consumers.has(queue));
    // The longest that the third attempt may wait, from the second on.
    await new Promise((resolve) => setTimeout(resolve, 450));
    assert.equal(broker.session.all("basic.consume").length, 2);
  });
});
