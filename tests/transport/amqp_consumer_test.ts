import assert from "node:assert/strict";
import { connect, serve } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { FakeBroker, method, noticeRejections, nuropb, plain, soon, until } from "./fake_broker.ts";
import type { Session } from "./fake_broker.ts";

const queue = "nuropb-shop-sq";
const order = { service: "shop", method: "order", params: {} };

/** Closes a channel as a broker does. */
function close(session: Session, channel: number, code: number, text: string): void {
  session.send(method(channel, "channel.close", { code, text }));
}

/** Ways in which a broker ends a consumer. */
const ends: readonly [what: string, end: (session: Session, channel: number, tag: string) => Uint8Array][] = [
  [
    "closes its channel",
    (_session, channel) =>
      method(channel, "channel.close", { code: 406, text: "PRECONDITION_FAILED - timeout" }),
  ],
  ["cancels it", (_session, channel, tag) => method(channel, "basic.cancel", { tag, flags: 1 })],
  ["cancels it and wants an answer", (_session, channel, tag) => method(channel, "basic.cancel", { tag })],
];

for (const [what, end] of ends) {
  describe(`a consumer, when the broker ${what},`, () => {
    noticeRejections();

    it("is set up again for a service, with its queue and its prefetch", async () => {
      await using broker = await FakeBroker.start();
      await using _service = await serve({ order: () => "done" }, {
        url: broker.url,
        name: "shop",
        concurrency: 9,
      });
      const { session } = broker;
      const { channel, tag } = session.consumers.get(queue)!;
      session.consumers.delete(queue);
      session.send(end(session, channel, tag));
      await until(() => session.consumers.has(queue));
      assert.equal(session.all("queue.declare").length, 4);
      assert.deepEqual(session.all("basic.qos").map(({ fields }) => fields.count), [9, 9]);
      session.deliver(queue, nuropb("request", order));
      await until(() => session.published.length === 1);
      assert.equal(broker.sessions.length, 1);
      // The old channel is gone, whoever closed it.
      await until(() => session.all("channel.close").length + session.all("channel.close-ok").length > 3);
    });

    it("is set up again for a subscription, with a queue of a new name", async () => {
      await using broker = await FakeBroker.start();
      await using mesh = await connect(broker.url);
      const orders = mesh.subscribe("orders.*");
      await orders.ready;
      const { session } = broker;
      const old = session.subscription;
      const { channel, tag } = session.consumers.get(old)!;
      session.consumers.delete(old);
      session.send(end(session, channel, tag));
      await until(() => session.consumers.size === 2);
      assert.notEqual(session.subscription, old);
      session.deliver(session.subscription, nuropb("event", { topic: "orders.created", event: 1 }));
      assert.equal((await soon(orders.next())).value?.event, 1);
    });

    it("is set up again even when that comes in one chunk with its confirmation", async () => {
      await using broker = await FakeBroker.start();
      await using mesh = await connect(broker.url);
      broker.once("basic.consume", ({ session, channel, fields }) =>
        session.send(
          method(channel, "basic.consume-ok", { tag: fields.tag! }),
          end(session, channel, String(fields.tag)),
        ));
      const serving = serve({ order: () => "done" }, { mesh, name: "shop" });
      await until(() => broker.session.consumers.has(queue));
      await (await serving).close();
    });

    it("is not set up again when the service is closed meanwhile", async () => {
      await using broker = await FakeBroker.start();
      await using mesh = await connect(broker.url);
      const service = await serve({ order: () => "done" }, { mesh, name: "shop" });
      const { session } = broker;
      const { channel, tag } = session.consumers.get(queue)!;
      session.send(end(session, channel, tag));
      // The end has been read when what came after it is answered.
      await mesh.request("shop", "order", {}, plain);
      await service.close();
      // Longer than the first delay before a consumer is set up again.
      await new Promise((resolve) => setTimeout(resolve, 150));
      assert.equal(session.all("basic.consume").length, 2);
    });
  });
}

describe("a consumer that the broker refuses to set up again", () => {
  noticeRejections();

  it("is set up again as often as it takes", async () => {
    await using broker = await FakeBroker.start();
    await using _service = await serve({ order: () => "done" }, { url: broker.url, name: "shop" });
    const { session } = broker;
    const { channel } = session.consumers.get(queue)!;
    session.consumers.delete(queue);
    broker.once("queue.declare", (step) => {
      close(step.session, step.channel, 404, "NOT_FOUND - home node of the queue is down");
      broker.once(
        "queue.declare",
        () =>
          broker.once(
            "basic.consume",
            (step) => close(step.session, step.channel, 404, "NOT_FOUND - home node of the queue is down"),
          ),
      );
    });
    close(session, channel, 406, "PRECONDITION_FAILED - timeout");
    await until(() => session.consumers.has(queue));
    session.deliver(queue, nuropb("request", order));
    await until(() => session.published.length === 1);
  });
});

describe("a delivery to a consumer that nobody knows", () => {
  noticeRejections();

  it("is handled and settled, for on its channel there is one consumer alone", async () => {
    await using broker = await FakeBroker.start();
    await using _service = await serve({ order: () => "done" }, { url: broker.url, name: "shop" });
    const { session } = broker;
    const deliveryTag = session.deliver(queue, nuropb("request", order), { tag: "nobody" });
    await until(() => session.all("basic.ack").length === 1);
    assert.equal(session.all("basic.ack")[0]?.fields.deliveryTag, deliveryTag);
  });
});
