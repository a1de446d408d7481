import assert from "node:assert/strict";
import { connect, NuropbMessageError, serve } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import type { Message } from "../../src/message.ts";
import { AmqpSocket } from "../../src/transport/amqp_socket.ts";
import { FakeBroker, inMemory, noticeRejections, nuropb, plain, settings, until } from "./fake_broker.ts";
import type { Tune } from "./fake_broker.ts";

/** An open connection and channel without a network. */
async function opened(tune: Partial<Tune> = {}) {
  const broker = new FakeBroker(tune);
  const { socket, session, writes } = inMemory(broker);
  const amqp = new AmqpSocket(socket, settings);
  await amqp.connect();
  const channel = amqp.openChannel();
  await until(() => session.all("channel.open").length === 1);
  writes.length = 0;
  return { broker, amqp, channel, session, writes };
}

function message(body: Uint8Array | string = "", headers: Record<string, unknown> = {}): Message {
  const bytes = typeof body === "string" ? new TextEncoder().encode(body) : body;
  return { exchange: "x", routingKey: "y", properties: { headers }, body: bytes };
}

const median = (values: number[]) => values.toSorted((a, b) => a - b)[values.length >> 1]!;

describe("what leaves in one write", () => {
  noticeRejections();

  it("is everything that one turn sends, bodies too", async () => {
    const { amqp, channel, session, writes } = await opened();
    for (let index = 0; index < 100; index++) channel.publish(message(`body ${index}`), false);
    await until(() => session.published.length === 100);
    assert.equal(writes.length, 1);
    assert.deepEqual(session.published.map(({ body }) => body.toString()).slice(-2), ["body 98", "body 99"]);
    amqp.end();
  });

  it("is all requests that were made in one turn", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url);
    await Promise.all(Array.from({ length: 50 }, () => mesh.request("shop", "order", {}, plain)));
    const chunks = new Set(broker.session.all("basic.publish").map(({ chunk }) => chunk));
    assert.equal(chunks.size, 1);
  });

  it("is an answer with the acknowledgment after it", async () => {
    await using broker = await FakeBroker.start();
    await using _service = await serve({ order: () => "done" }, { url: broker.url, name: "shop" });
    const { session } = broker;
    const fields = { service: "shop", method: "order", params: {} };
    const tag = session.deliver("nuropb-shop-sq", nuropb("request", { ...fields, correlation_id: "c1" }));
    await until(() => session.all("basic.ack").length === 1);
    const [reply, , , ack] = session.received.slice(-4);
    assert.deepEqual([reply?.name, ack?.name], ["basic.publish", "basic.ack"]);
    assert.equal(reply?.channel, ack?.channel);
    assert.equal(reply?.chunk, ack?.chunk);
    assert.equal(ack?.fields.deliveryTag, tag);
  });

  it("does not wait until the broker's TCP has acknowledged what left before", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url);
    const arrivals: number[] = [];
    const gaps: number[] = [];
    const pending: Promise<unknown>[] = [];
    for (let round = 0; round < 15; round++) {
      // TCP acknowledges late only where it has seen that answers follow.
      for (let answered = 0; answered < 4; answered++) await mesh.publish("orders.created", answered);
      arrivals.length = 0;
      broker.on("basic.publish", () => arrivals.push(performance.now()));
      for (let part = 0; part < 2; part++) {
        pending.push(mesh.publish("orders.created", part).catch(() => {}));
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      await until(() => arrivals.length === 2);
      broker.off("basic.publish");
      gaps.push(arrivals[1]! - arrivals[0]!);
    }
    // With Nagle's algorithm the second one would wait for an acknowledgment that TCP delays by 40 ms.
    assert.ok(median(gaps) < 25, `${gaps}`);
    await mesh.close();
    await Promise.all(pending);
  });
});

describe("a message on its way to the broker", () => {
  noticeRejections();

  for (const frameMax of [4_096, 131_072]) {
    const part = frameMax - 8;
    for (const size of [0, 1, part - 1, part, part + 1, 2 * part, 300_000]) {
      it(`of ${size} bytes is cut into frames of at most ${frameMax} bytes`, async () => {
        const { amqp, channel, session } = await opened({ frameMax });
        const body = Uint8Array.from({ length: size }, (_, index) => index % 251);
        channel.publish(message(body), false);
        await until(() => session.published.length === 1);
        assert.ok(session.published[0]!.body.equals(body));
        assert.equal(session.all("content").length, 1 + Math.ceil(size / part));
        amqp.end();
      });
    }
  }

  for (const frameMax of [4_096, 131_072]) {
    for (const size of [frameMax - 10, frameMax + 10, 10 * frameMax]) {
      it(`is refused with headers of ${size} bytes, over a frame of ${frameMax}, and harms no other`, async () => {
        const { amqp, broker, channel, session } = await opened({ frameMax });
        await channel.confirmSelect();
        const first = channel.confirm(message("first"), false);
        await assert.rejects(
          async () => await channel.confirm(message("", { large: "x".repeat(size) }), false),
          (error: unknown) => {
            assert.ok(error instanceof NuropbMessageError);
            assert.equal(error.code, "MESSAGE_TOO_LARGE");
            return true;
          },
        );
        await channel.confirm(message("second"), false);
        await first;
        assert.deepEqual(session.published.map(({ body, deliveryTag }) => [body.toString(), deliveryTag]), [
          ["first", 1],
          ["second", 2],
        ]);
        assert.deepEqual(broker.faults, []);
        amqp.end();
      });
    }
  }

  it("is refused over maxMessageSize, and nothing of it leaves", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url, { maxMessageSize: 1_000 });
    const params = { text: "x".repeat(1_000) };
    const tooLarge = { name: "NuropbMessageError", code: "MESSAGE_TOO_LARGE" };
    await assert.rejects(mesh.request("shop", "order", params, plain), tooLarge);
    await assert.rejects(mesh.command("shop", "order", params, plain), tooLarge);
    await assert.rejects(mesh.publish("orders.created", params), tooLarge);
    assert.equal(await mesh.request("shop", "order", {}, plain), "pong");
    assert.equal(broker.session.published.length, 1);
  });

  it("has no header that is neither a text nor void, since the codec would change numbers", async () => {
    await using broker = await FakeBroker.start();
    await using _service = await serve({ order: () => 1 }, { url: broker.url, name: "shop" });
    const { session } = broker;
    session.deliver("nuropb-shop-sq", nuropb("request", { service: "shop", method: "order", params: {} }));
    await using mesh = await connect(broker.url);
    await mesh.request("shop", "order", {}, plain);
    await mesh.command("shop", "order", {}, plain);
    await mesh.publish("orders.created", 1);
    await until(() => session.published.length === 1);
    const published = broker.sessions.flatMap((session) => session.published);
    assert.equal(published.length, 4);
    for (const { properties } of published) {
      assert.match(kindsOf(properties.headers as Uint8Array), /^[SV]+$/);
    }
  });
});

/** The types of a header table's fields, as far as they are long strings or void. */
function kindsOf(headers: Uint8Array): string {
  const view = new DataView(headers.buffer, headers.byteOffset, headers.byteLength);
  let kinds = "";
  for (let at = 0; at < headers.byteLength;) {
    at += 1 + view.getUint8(at);
    const kind = String.fromCharCode(view.getUint8(at));
    kinds += kind;
    if (kind !== "S" && kind !== "V") return kinds;
    at += kind === "S" ? 5 + view.getUint32(at + 1) : 1;
  }
  return kinds;
}
