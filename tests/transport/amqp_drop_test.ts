import assert from "node:assert/strict";
import { connect, NuropbTransportError, serve } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { deferred } from "../../src/deferred.ts";
import {
  FakeBroker,
  method,
  noticeRejections,
  nuropb,
  plain,
  showsNoPassword,
  until,
} from "./fake_broker.ts";
import type { Session, StepName } from "./fake_broker.ts";

/** Ways to lose a connection. */
const losses: readonly [what: string, lose: (session: Session) => void][] = [
  ["drops", (session) => session.drop()],
  [
    "is closed by the broker",
    (session) =>
      session.send(method(0, "connection.close", { code: 320, text: "CONNECTION_FORCED - maintenance" })),
  ],
  [
    "is closed by the broker over an error",
    (session) => session.send(method(0, "connection.close", { code: 541, text: "INTERNAL_ERROR" })),
  ],
];

const serving: readonly StepName[] = [
  "channel.open",
  "exchange.declare",
  "queue.declare",
  "queue.bind",
  "channel.close",
  "basic.qos",
  "basic.consume",
];

for (const [what, lose] of losses) {
  describe(`a connection that ${what}`, () => {
    noticeRejections();

    for (const step of serving) {
      it(`in the middle of serving delays it until the next one: ${step}`, async () => {
        await using broker = await FakeBroker.start();
        await using mesh = await connect(broker.url);
        broker.once(step, ({ session }) => lose(session));
        await using _service = await serve({ order: () => "done" }, { mesh, name: "shop" });
        assert.equal(broker.sessions.length, 2);
        assert.equal(broker.session.all("basic.consume").length, 2);
        const fields = { service: "shop", method: "order", params: {} };
        broker.session.deliver("nuropb-shop-sq", nuropb("request", fields));
        await until(() => broker.session.published.length === 1);
      });
    }

    for (const step of ["channel.open", "confirm.select", "basic.publish"] as const) {
      it(`in the middle of a command sends it again under the same id: ${step}`, async () => {
        await using broker = await FakeBroker.start();
        await using mesh = await connect(broker.url);
        broker.once(step, ({ session }) => lose(session));
        await mesh.command("shop", "order", { number: 1 }, plain);
        assert.equal(broker.sessions.length, 2);
        const published = broker.sessions.flatMap((session) => session.published);
        assert.equal(published.length, step === "basic.publish" ? 2 : 1);
        assert.equal(new Set(published.map(({ properties }) => properties.messageId)).size, 1);
        assert.equal(new Set(published.map(({ body }) => body.toString())).size, 1);
      });
    }

    it("in the middle of many events confirms each of them once it is through", async () => {
      await using broker = await FakeBroker.start();
      await using mesh = await connect(broker.url);
      let count = 0;
      broker.on("basic.publish", ({ session }, next) => {
        // Every second one is confirmed until the connection goes.
        if (broker.sessions.length > 1) return next();
        if (++count % 2 === 0) next();
        if (count === 20) lose(session);
      });
      await Promise.all(Array.from({ length: 30 }, (_, index) => mesh.publish("orders.created", index)));
      assert.equal(broker.sessions.length, 2);
    });

    it("fails the requests that were sent, since they may have run, and takes the next one", async () => {
      await using broker = await FakeBroker.start();
      await using mesh = await connect(broker.url);
      broker.on("basic.publish", ({ session }) => {
        if (session.published.length === 3) lose(session);
      });
      const requests = Array.from(
        { length: 3 },
        (_, index) => mesh.request("shop", `order${index}`, {}, plain),
      );
      for (const [index, request] of requests.entries()) {
        await assert.rejects(request, (error: unknown) => {
          assert.ok(error instanceof NuropbTransportError);
          assert.equal(error.code, "CONNECTION_LOST");
          assert.match(error.message, new RegExp(`^shop.order${index} has no answer, and may have run: `));
          showsNoPassword(error);
          return true;
        });
      }
      broker.off("basic.publish");
      assert.equal(await mesh.request("shop", "order", {}, plain), "pong");
    });

    it("gives a method that runs the time to end, and its answer is nobody's", async () => {
      await using broker = await FakeBroker.start();
      const gate = deferred<void>();
      const service = await serve({ order: () => gate.promise }, { url: broker.url, name: "shop" });
      const fields = { service: "shop", method: "order", params: {} };
      const [first] = broker.sessions;
      first!.deliver("nuropb-shop-sq", nuropb("request", fields));
      first!.deliver("nuropb-shop-sq", nuropb("command", fields));
      // Both have been read when what came after them is answered.
      await service.mesh.request("shop", "order", {}, plain);
      lose(first!);
      await until(() => broker.sessions.length === 2 && broker.session.consumers.has("nuropb-shop-sq"));
      gate.resolve();
      await service.mesh.command("shop", "order", {}, plain);
      assert.deepEqual(broker.session.all("basic.ack"), []);
      assert.equal(broker.session.published.length, 1);
      await service.close();
    });

    for (const step of ["basic.cancel", "channel.close", "connection.close"] as const) {
      it(`while a service closes lets it close: ${step}`, async () => {
        await using broker = await FakeBroker.start();
        const service = await serve({ order: () => 1 }, { url: broker.url, name: "shop" });
        broker.once(step, ({ session }) => lose(session));
        await service.close();
        assert.equal(service.mesh.status.state, "closed");
        await until(() => broker.sessions.every(({ closed }) => closed));
      });
    }

    it("in the middle of a delivery is lost with it, and nothing of it is handled", async () => {
      await using broker = await FakeBroker.start();
      const handled: unknown[] = [];
      const order = (params: unknown) => handled.push(params);
      await using _service = await serve({ order }, { url: broker.url, name: "shop" });
      const [first] = broker.sessions;
      const fields = { service: "shop", method: "order", params: { number: 1 } };
      const bytes = first!.delivery("nuropb-shop-sq", nuropb("command", fields));
      first!.send(bytes.subarray(0, bytes.byteLength - 1));
      lose(first!);
      await until(() => broker.sessions.length === 2 && broker.session.consumers.has("nuropb-shop-sq"));
      assert.deepEqual(handled, []);
      broker.session.deliver("nuropb-shop-sq", nuropb("command", fields), { redelivered: 1 });
      await until(() => broker.session.all("basic.ack").length === 1);
      assert.deepEqual(handled, [{ number: 1 }]);
    });
  });
}

describe("a connection that the broker closes, whatever its reason,", () => {
  noticeRejections();

  const reasons: readonly [code: number, text: string][] = [
    [320, "CONNECTION_FORCED - Closed via management plugin"],
    [403, "ACCESS_REFUSED - the account is no more"],
    [404, "NOT_FOUND - no exchange"],
    [501, "FRAME_ERROR - of another channel"],
    [504, "CHANNEL_ERROR - expected 'channel.open'"],
    [505, "UNEXPECTED_FRAME - expected content header"],
    [530, "NOT_ALLOWED - vhost mesh not found"],
    [541, "INTERNAL_ERROR"],
  ];
  for (const [code, text] of reasons) {
    it(`is lost, and all that may be sent again is: ${text}`, async () => {
      await using broker = await FakeBroker.start();
      await using mesh = await connect(broker.url);
      // The channels are open then.
      await mesh.publish("warm.up", 0);
      broker.on("basic.publish", ({ session }, next) => {
        if (broker.sessions.length > 1) next();
        else if (session.published.length === 5) {
          session.send(method(0, "connection.close", { code, text }));
        }
      });
      const lost = assert.rejects(mesh.request("shop", "order", {}, plain), (error: unknown) => {
        assert.ok(error instanceof NuropbTransportError);
        assert.equal(error.code, "CONNECTION_LOST");
        assert.ok(error.message.includes(text), error.message);
        return true;
      });
      const again = mesh.request("shop", "order", {}, { ...plain, idempotent: true });
      const told = [mesh.command("shop", "order", {}, plain), mesh.publish("orders.created", 1)];
      await lost;
      assert.equal(await again, "pong");
      await Promise.all(told);
      const [first, second] = broker.sessions.map(({ published }) =>
        published.map(({ properties: { correlationId, messageId } }) => String(correlationId ?? messageId))
      );
      assert.deepEqual(second!.toSorted(), first!.slice(2).toSorted());
      assert.equal(broker.sessions[0]!.all("connection.close-ok").length, 1);
    });
  }
});

describe("the late end of an old connection", () => {
  noticeRejections();

  it("does not harm the new one", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url);
    const [first] = broker.sessions;
    // The client is told to go; the broker keeps the socket until the new connection is there.
    broker.on("connection.close-ok", () => {});
    first!.send(method(0, "connection.close", { code: 320, text: "CONNECTION_FORCED" }));
    await until(() => mesh.status.state === "waiting");
    await mesh.ready();
    const states: string[] = [];
    mesh.addEventListener("status", ({ detail }) => states.push(detail.state));
    first!.send(method(0, "connection.close", { code: 320, text: "CONNECTION_FORCED" }));
    first!.drop();
    assert.equal(await mesh.request("shop", "order", {}, plain), "pong");
    await mesh.publish("orders.created", 1);
    assert.deepEqual(states, []);
    assert.equal(broker.sessions.length, 2);
  });
});

describe("a connection that the broker blocks", () => {
  noticeRejections();

  it("publishes on, and so does the one after it", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url);
    broker.session.send(method(0, "connection.blocked", { reason: "low on memory" }));
    // The broker takes nothing while it is short of memory.
    broker.on("basic.publish", () => {});
    const event = mesh.publish("orders.created", 1);
    await until(() => broker.session.published.length === 1);
    broker.off("basic.publish");
    broker.session.drop();
    await event;
    await mesh.command("shop", "order", {}, plain);
    assert.equal(await mesh.request("shop", "order", {}, plain), "pong");
    assert.equal(broker.sessions.length, 2);
  });
});
