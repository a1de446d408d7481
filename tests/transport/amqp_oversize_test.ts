import assert from "node:assert/strict";
import { connect, NuropbMessageError, serve } from "@nuropb/mesh";
import type { ConnectOptions, Logger } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { FakeBroker, noticeRejections, nuropb, plain, soon, until } from "./fake_broker.ts";
import type { Content } from "./fake_broker.ts";

const replies = "amq.rabbitmq.reply-to";
const queue = "nuropb-shop-sq";
const brief = { ...plain, ttl: 3_000 };
const options: ConnectOptions = { maxMessageSize: 1_000 };

/** Ways to announce too much: a body that comes whole, in several frames, and one of which only a part ever comes. */
const large: readonly [what: string, body: Pick<Content, "body" | "announced">, size: number][] = [
  ["of 5000 bytes", { body: "x".repeat(5_000) }, 5_000],
  ["of 2^40 bytes that never come", { body: "", announced: 2 ** 40 }, 2 ** 40],
  ["of 2^40 bytes of which a few come", { body: "x".repeat(300), announced: 2 ** 40 }, 2 ** 40],
];

/** A logger that keeps what it is told. */
function recorder(): { logger: Logger; lines: string[] } {
  const lines: string[] = [];
  const log = (message: string, fields?: Record<string, unknown>) =>
    void lines.push(`${message} ${fields?.reason}`);
  return { logger: { debug: log, info: log, warn: log, error: log }, lines };
}

for (const [what, body, size] of large) {
  describe(`a body over maxMessageSize, ${what},`, () => {
    noticeRejections();

    it("fails the one request that it answers", async () => {
      await using broker = await FakeBroker.start();
      await using mesh = await connect(broker.url, options);
      broker.once("basic.publish", ({ session, message }) => {
        const { properties } = nuropb("response", { correlation_id: message.properties.correlationId });
        session.deliver(replies, { properties: properties!, ...body }, {}, 1_000);
      });
      await assert.rejects(mesh.request("shop", "order", {}, brief), (error: unknown) => {
        assert.ok(error instanceof NuropbMessageError);
        assert.equal(error.code, "MESSAGE_TOO_LARGE");
        assert.ok(error.message.includes(`${size} bytes`));
        return true;
      });
      assert.equal(await mesh.request("shop", "order", {}, brief), "pong");
      assert.equal(await mesh.request("shop", "order", {}, brief), "pong");
      assert.equal(broker.sessions.length, 1);
    });

    for (const type of ["request", "command", "event"] as const) {
      it(`has a service reject its ${type} once, and take the next message`, async () => {
        await using broker = await FakeBroker.start();
        const { logger, lines } = recorder();
        const handled: unknown[] = [];
        const order = ({ number }: { number: number }) => void handled.push(number);
        await using _service = await serve({ order }, { url: broker.url, name: "shop", ...options, logger });
        const { session } = broker;
        const tooLarge = session.deliver(queue, { ...nuropb(type, {}), ...body }, {}, 1_000);
        const fields = { service: "shop", method: "order" };
        const next = [1, 2].map((number) =>
          session.deliver(queue, nuropb("command", { ...fields, params: { number } }))
        );
        await until(() => session.acked.length === 2);
        assert.deepEqual(session.all("basic.reject").map(({ fields }) => fields), [
          { deliveryTag: tooLarge, requeue: 0 },
        ]);
        assert.deepEqual(session.acked, next);
        assert.deepEqual(handled, [1, 2]);
        // Whoever waits for an answer is told.
        assert.equal(session.published.length, type === "request" ? 1 : 0);
        assert.ok(lines.some((line) => line.includes(`${size} bytes is larger than maxMessageSize`)));
        assert.equal(broker.sessions.length, 1);
      });
    }

    it("is skipped by a subscription, which gives the next event", async () => {
      await using broker = await FakeBroker.start();
      await using mesh = await connect(broker.url, options);
      const orders = mesh.subscribe("orders.*");
      await orders.ready;
      const { session } = broker;
      const own = session.subscription;
      session.deliver(own, { ...nuropb("event", { topic: "orders.large" }), ...body }, {}, 1_000);
      session.deliver(own, nuropb("event", { topic: "orders.small", event: 1 }));
      assert.equal((await soon(orders.next())).value?.topic, "orders.small");
      await until(() => session.acked.length === 2);
    });
  });
}

describe("a body of exactly maxMessageSize", () => {
  noticeRejections();

  it("is taken", async () => {
    await using broker = await FakeBroker.start();
    await using _service = await serve({ order: () => 1 }, { url: broker.url, name: "shop", ...options });
    const fields = { service: "shop", method: "order", params: { text: "" } };
    const size = String(nuropb("command", fields).body).length;
    const exact = nuropb("command", { ...fields, params: { text: "x".repeat(1_000 - size) } });
    assert.equal(String(exact.body).length, 1_000);
    broker.session.deliver(queue, exact, {}, 300);
    await until(() => broker.session.all("basic.ack").length === 1);
  });
});
