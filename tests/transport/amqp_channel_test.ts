import assert from "node:assert/strict";
import { connect, NuropbException } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { FakeBroker, method, noticeRejections, openConnection, plain, until } from "./fake_broker.ts";
import type { Hook, Session, Step } from "./fake_broker.ts";

const replies = "amq.rabbitmq.reply-to";
/** A request that is given up soon, should nobody hear its answer. */
const brief = { ...plain, ttl: 3_000 };

/** Closes a channel as a broker does. */
function close(session: Session, channel: number, code: number, text: string): void {
  session.send(method(channel, "channel.close", { code, text }));
}

function codesOf(operations: readonly Promise<unknown>[]): Promise<unknown[]> {
  return Promise.all(
    operations.map((operation) =>
      operation.then(() => "ok", (error: unknown) => error instanceof NuropbException ? error.code : error)
    ),
  );
}

describe("the channel of requests, when the broker closes it,", () => {
  noticeRejections();

  it("fails the requests on it with the broker's reason, and the next one works", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url);
    broker.on("basic.publish", ({ session, channel }) => {
      if (session.published.length === 3) {
        close(session, channel, 406, "PRECONDITION_FAILED - no fast reply consumer");
      }
    });
    const requests = Array.from({ length: 3 }, () => mesh.request("shop", "order", {}, plain));
    await assert.rejects(
      requests[0]!,
      /shop.order has no answer, and may have run: .*no fast reply consumer/,
    );
    assert.deepEqual(await codesOf(requests), Array.from({ length: 3 }, () => "PRECONDITION_FAILED"));
    broker.off("basic.publish");
    assert.equal(await mesh.request("shop", "order", {}, plain), "pong");
    assert.equal(broker.sessions.length, 1);
    assert.equal(broker.session.all("channel.close-ok").length, 1);
  });

  it("has a request wait that is made while a new one is opened", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url);
    const { session } = broker;
    let answer = () => {};
    broker.once("basic.consume", (_step, next) => answer = next);
    close(session, session.consumers.get(replies)!.channel, 541, "INTERNAL_ERROR");
    await until(() => session.all("basic.consume").length === 2);
    const request = mesh.request("shop", "order", {}, plain);
    await new Promise((resolve) => setTimeout(resolve));
    assert.equal(session.published.length, 0);
    answer();
    assert.equal(await request, "pong");
  });

  it("takes the exchange for missing, and so the service, when the broker says so", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url, { declare: false });
    broker.once(
      "basic.publish",
      ({ session, channel }) => close(session, channel, 404, "NOT_FOUND - no exchange"),
    );
    assert.deepEqual(await codesOf([mesh.request("shop", "order", {}, plain)]), ["NOT_DELIVERED"]);
    assert.equal(await mesh.request("shop", "order", {}, plain), "pong");
  });

  it("takes the connection with it when no new one can be had", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url);
    broker.once("basic.consume", ({ session, channel }) => close(session, channel, 403, "ACCESS_REFUSED"));
    broker.once("basic.publish", ({ session, channel }) => close(session, channel, 541, "INTERNAL_ERROR"));
    assert.deepEqual(await codesOf([mesh.request("shop", "order", {}, plain)]), ["CHANNEL_CLOSED"]);
    await until(() => broker.sessions.length === 2);
    await mesh.ready();
    assert.equal(await mesh.request("shop", "order", {}, plain), "pong");
    assert.equal(broker.sessions.length, 2);
  });

  it("is not taken for open when that comes in one chunk with its confirmation", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url);
    const endings: ((step: Step) => Uint8Array)[] = [
      ({ channel }) => method(channel, "channel.close", { code: 541, text: "INTERNAL_ERROR" }),
      ({ channel, fields }) => method(channel, "basic.cancel", { tag: fields.tag!, flags: 1 }),
    ];
    for (const end of endings) {
      broker.once("basic.consume", (step) => {
        const { session, channel, fields } = step;
        session.send(method(channel, "basic.consume-ok", { tag: fields.tag! }), end(step));
      });
      const { session } = broker;
      const before = session.all("basic.consume").length;
      close(session, session.consumers.get(replies)!.channel, 541, "INTERNAL_ERROR");
      await until(() => session.all("basic.consume").length > before);
      await until(() => broker.session.consumers.has(replies));
      await mesh.ready();
      assert.equal(await mesh.request("shop", "order", {}, brief), "pong");
    }
  });

  it("is opened anew, too, when the queue of answers is deleted", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url, { replies: "queue" });
    assert.equal(await mesh.request("shop", "order", {}, plain), "pong");
    const { session } = broker;
    const [[own, { channel, tag }]] = [...session.consumers] as [[string, { channel: number; tag: string }]];
    broker.on("basic.publish", () => {});
    const lost = mesh.request("shop", "order", {}, brief);
    await until(() => session.published.length === 2);
    session.consumers.delete(own);
    session.send(method(channel, "basic.cancel", { tag, flags: 1 }));
    const [code] = await codesOf([lost]);
    assert.notEqual(code, "TIMEOUT");
    broker.off("basic.publish");
    assert.equal(await mesh.request("shop", "order", {}, brief), "pong");
  });
});

describe("the channel of commands and events, when the broker closes it,", () => {
  noticeRejections();

  /** Has a broker confirm none of so many messages, close their channel, and go on in another way. */
  function closeOver(broker: FakeBroker, count: number, then: Hook): void {
    const { session } = broker;
    const all = session.published.length + count;
    broker.on("basic.publish", ({ channel }) => {
      if (session.published.length < all) return;
      broker.on("basic.publish", then);
      close(session, channel, 403, "ACCESS_REFUSED - write to a topic");
    });
  }

  const idsOf = (session: Session) => session.published.map(({ properties }) => properties.messageId);

  it("fails with the broker's reason the one that was to blame, and confirms all others", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url);
    closeOver(broker, 4, ({ session, channel, message: { routingKey } }, next) => {
      if (routingKey !== "orders.forbidden") return next();
      close(session, channel, 403, `ACCESS_REFUSED - write to ${routingKey}`);
    });
    const pending = ["orders.1", "orders.forbidden", "orders.2", "orders.3"].map((topic) =>
      mesh.publish(topic, topic)
    );
    await assert.rejects(pending[1]!, /ACCESS_REFUSED - write to orders.forbidden/);
    assert.deepEqual(await codesOf(pending), ["ok", "ACCESS_REFUSED", "ok", "ok"]);
    const ids = idsOf(broker.session);
    assert.equal(ids.length, 8);
    assert.deepEqual(ids.slice(4), ids.slice(0, 4));
    broker.off("basic.publish");
    await mesh.command("shop", "order", {}, plain);
    assert.equal(broker.sessions.length, 1);
  });

  it("tries each of them by itself, on another channel than what is sent meanwhile", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url);
    const held: { channel: number; topic: string; next: () => void }[] = [];
    closeOver(broker, 3, ({ channel, message }, next) => {
      held.push({ channel, topic: message.routingKey, next });
    });
    const pending = ["orders.1", "orders.2", "orders.3"].map((topic) => mesh.publish(topic, topic));
    await until(() => held.length === 1);
    const meanwhile = mesh.publish("orders.4", 4);
    const channels = new Set<number>();
    for (const turn of [1, 2, 3]) {
      await until(() => held.some(({ topic }) => topic === `orders.${turn}`));
      // What was sent meanwhile is held, too, and nothing that comes after this one.
      await until(() => held.length === 2);
      for (const { topic, channel, next } of held.splice(0)) {
        channels.add(channel);
        if (topic === "orders.4") held.push({ channel, topic, next });
        else next();
      }
      await pending[turn - 1];
    }
    held[0]!.next();
    await meanwhile;
    assert.equal(channels.size, 2);
  });

  it("does not try again what nobody waits for any more", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url);
    await mesh.publish("warm.up", 0);
    const { session } = broker;
    const controller = new AbortController();
    closeOver(broker, 3, (_step, next) => next());
    broker.once("confirm.select", (_step, next) => {
      controller.abort(new Error("enough"));
      next();
    });
    const { signal } = controller;
    const [first, second, third] = ["orders.1", "orders.2", "orders.3"].map((topic) =>
      mesh.publish(topic, topic, topic === "orders.2" ? { signal } : {})
    );
    await assert.rejects(second!, { message: "enough" });
    await Promise.all([first, third]);
    const topics = session.published.map(({ routingKey }) => routingKey);
    assert.deepEqual(topics.slice(4), ["orders.1", "orders.3"]);
  });

  it("harms no request", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url);
    let answer = () => {};
    broker.once("basic.publish", (_step, next) => answer = next);
    const request = mesh.request("shop", "order", {}, plain);
    await until(() => broker.session.published.length === 1);
    broker.on(
      "basic.publish",
      ({ session, channel }) => close(session, channel, 404, "NOT_FOUND - no exchange"),
    );
    assert.deepEqual(await codesOf([mesh.command("shop", "order", {}, plain)]), ["NOT_DELIVERED"]);
    answer();
    assert.equal(await request, "pong");
  });

  it("counts the confirms of a new one from the start", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url);
    for (let round = 0; round < 3; round++) {
      for (let index = 0; index < 3; index++) await mesh.publish("orders.created", index);
      const { session } = broker;
      close(session, session.published.at(-1)!.channel, 541, "INTERNAL_ERROR");
      await until(() => session.all("channel.close-ok").length === round + 1);
    }
    await mesh.publish("orders.created", 9);
    assert.deepEqual(broker.session.published.map(({ deliveryTag }) => deliveryTag), [
      1,
      2,
      3,
      1,
      2,
      3,
      1,
      2,
      3,
      1,
    ]);
  });

  it("fails a message that is sent while it is being opened", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url);
    broker.once("confirm.select", ({ session, channel }) => close(session, channel, 540, "NOT_IMPLEMENTED"));
    assert.deepEqual(await codesOf([mesh.publish("orders.created", 1)]), ["CHANNEL_CLOSED"]);
    await mesh.publish("orders.created", 2);
  });
});

describe("a connection whose channels are all in use", () => {
  noticeRejections();

  it("refuses what needs another one, and is not taken for lost", async () => {
    // Over a lost connection things are tried again, which here would never end.
    await using broker = await FakeBroker.start({ channelMax: 2 });
    const { connection, closes } = await openConnection(broker);
    const handlers = { ondelivery: () => {}, onend: () => {} };
    const consumer = await connection.consume({ queue: "q", topology: [], prefetch: 1 }, handlers);
    const message = { exchange: "x", routingKey: "y", properties: { headers: {} }, body: new Uint8Array(0) };
    const needs = [
      () => connection.publish(message, false),
      () => connection.declare([]),
      () => connection.consume({ queue: "q", topology: [], prefetch: 1 }, handlers),
    ];
    for (const need of needs) {
      const [code] = await codesOf([need()]);
      assert.ok(code !== "CONNECTION_LOST" && code !== "TIMEOUT", String(code));
    }
    await consumer.close();
    await connection.publish(message, false);
    assert.deepEqual(closes, []);
    await connection.close();
  });
});
