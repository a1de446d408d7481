import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { connect, NuropbTransportError, serve } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { AmqpSocket } from "../../src/transport/amqp_socket.ts";
import {
  content,
  FakeBroker,
  frame,
  inMemory,
  method,
  noticeRejections,
  nuropb,
  openConnection,
  plain,
  settings,
  showsNoPassword,
  table,
  until,
} from "./fake_broker.ts";
import type { Session } from "./fake_broker.ts";

const text = (characters: string) => Buffer.from(characters);
const replies = "amq.rabbitmq.reply-to";
const queue = "nuropb-shop-sq";

function delivery(session: Session, headers: Uint8Array): Buffer {
  return session.delivery(replies, { properties: { headers } });
}

/** Bytes that end a connection. */
const junk: readonly [what: string, bytes: (session: Session) => Uint8Array][] = [
  ["a web page", () => text("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")],
  ["a greeting of another version", () => text("AMQP\0\0\x09\x00")],
  ["a TLS alert", () => Buffer.of(0x15, 3, 1, 0, 2, 2, 70, 0, 0, 0, 0, 0)],
  ["a frame over the largest size", () => frame(8, 0, new Uint8Array(131_072))],
  ["a frame of a negative size", () => Buffer.of(1, 0, 0, 255, 255, 255, 255, 0)],
  ["a frame without its end mark", () => Buffer.of(8, 0, 0, 0, 0, 0, 0, 0)],
  ["a method of no bytes", () => frame(1, 0, new Uint8Array(0))],
  ["a method cut short", () => frame(1, 0, Buffer.of(0, 10, 0, 50, 1))],
  ["a header of an unknown type", (session) => delivery(session, table({ x: text("?") }))],
  ["a header table that ends early", (session) => delivery(session, table({ x: text("S\0\xff\xff\xff") }))],
  ["a body longer than announced", (session) => session.delivery(replies, { body: "four", announced: 3 })],
];

describe("bytes from the broker that are no AMQP", () => {
  noticeRejections();

  for (const [what, bytes] of junk) {
    it(`end the connection, and a new one is opened: ${what}`, async () => {
      await using broker = await FakeBroker.start();
      await using mesh = await connect(broker.url);
      broker.once("basic.publish", ({ session }) => session.send(bytes(session)));
      await assert.rejects(mesh.request("shop", "order", {}, plain), (error: unknown) => {
        assert.ok(error instanceof NuropbTransportError);
        assert.equal(error.code, "CONNECTION_LOST");
        assert.match(error.message, /The broker sent what is not AMQP 0-9-1: /);
        showsNoPassword(error);
        return true;
      });
      assert.equal(await mesh.request("shop", "order", {}, plain), "pong");
      assert.equal(broker.sessions.length, 2);
    });

    it(`fail the handshake: ${what}`, async () => {
      await using broker = await FakeBroker.start();
      // Where the junk is a delivery there is a consumer to deliver to.
      broker.once("basic.consume", ({ session, channel }) => {
        session.consumers.set(replies, { channel, tag: "t" });
        session.send(bytes(session));
      });
      await assert.rejects(connect(broker.url), (error: unknown) => {
        assert.ok(error instanceof NuropbTransportError);
        showsNoPassword(error);
        return true;
      });
    });
  }

  const odd: readonly [what: string, bytes: (session: Session) => Uint8Array][] = [
    ["a frame of an unknown type", () => frame(77, 0, text("?"))],
    ["an unknown method", () => frame(1, 0, Buffer.of(0, 10, 0, 99))],
    ["a method of an unknown class", () => frame(1, 0, Buffer.of(0, 99, 0, 10, 1, 2, 3))],
    ["a method on a channel that is not open", () => method(99, "channel.close", { code: 404, text: "?" })],
    ["a delivery on a channel that is not open", () => content(99, { body: "?" })],
    ["a confirm that nobody waits for", () => method(1, "basic.ack", { deliveryTag: 77 })],
    [
      "an answer that nobody waits for",
      (session) => session.delivery(replies, nuropb("response", { result: 1 })),
    ],
    ["an answer without anything in it", (session) => session.delivery(replies, {})],
    [
      "a delivery to a consumer that nobody knows",
      (session) => session.delivery(replies, nuropb("response", { result: 1 }), { tag: "nobody" }),
    ],
  ];
  for (const [what, bytes] of odd) {
    it(`are passed over where they do no harm: ${what}`, async () => {
      await using broker = await FakeBroker.start();
      await using mesh = await connect(broker.url);
      await mesh.publish("orders.created", 1);
      broker.session.send(bytes(broker.session));
      assert.equal(await mesh.request("shop", "order", {}, plain), "pong");
      assert.equal(broker.sessions.length, 1);
    });
  }

  it("never escape from the socket's handler, whatever they are", async () => {
    // A linear congruential generator, so that each run is the same.
    let state = 7;
    const random = (limit: number) =>
      Math.floor((state = (state * 48_271) % 2_147_483_647) / 2_147_483_647 * limit);
    // The codec warns of each number over 2^53.
    const { warn } = console;
    console.warn = () => {};
    let ended = 0;
    for (let round = 0; round < 400; round++) {
      const { socket, session } = inMemory(new FakeBroker());
      const amqp = new AmqpSocket(socket, { ...settings, maxMessageSize: 1_000 });
      amqp.onend = () => ended++;
      await amqp.connect();
      const channel = amqp.openChannel();
      await channel.basicConsume(queue, {}, () => {});
      const good = Array.from(
        { length: 3 },
        () =>
          session.delivery(queue, nuropb("event", { topic: "x", event: "y".repeat(random(2_000)) }), {}, 500),
      );
      const bytes = Buffer.concat(good);
      for (let changes = 1 + random(5); changes > 0; changes--) bytes[random(bytes.byteLength)] = random(256);
      socket.ondata(bytes);
      amqp.end();
    }
    console.warn = warn;
    assert.equal(ended, 400);
  });
});

describe("a handler that throws", () => {
  noticeRejections();

  const handlers = ["onreply", "onreturn", "onreset"] as const;
  for (const name of handlers) {
    it(`does not escape from the socket's handler: ${name}`, async () => {
      await using broker = await FakeBroker.start();
      const { connection, closes } = await openConnection(broker, {
        [name]: () => {
          throw new Error("thrown by a handler");
        },
      });
      const { session } = broker;
      const { channel } = session.consumers.get(replies)!;
      if (name === "onreply") session.deliver(replies, { body: "?" });
      if (name === "onreturn") session.send(method(channel, "basic.return"), content(channel, { body: "?" }));
      if (name === "onreset") session.send(method(channel, "channel.close", { code: 541 }));
      await until(() => closes.length === 1);
      await connection.close();
    });
  }

  it("does not escape from the socket's handler: a consumer's", async () => {
    await using broker = await FakeBroker.start();
    const { connection, closes } = await openConnection(broker);
    await connection.consume({ queue, topology: [], prefetch: 1 }, {
      ondelivery: () => {
        throw new Error("thrown by a handler");
      },
      onend: () => {},
    });
    broker.session.deliver(queue, { body: "?" });
    await until(() => closes.length === 1);
    await connection.close();
  });
});

describe("a header that is nested too deeply to be read", () => {
  noticeRejections();

  it("does not cost a service its connection, since the same message would come again", async () => {
    await using broker = await FakeBroker.start();
    await using _service = await serve({ order: () => "done" }, { url: broker.url, name: "shop" });
    const { session } = broker;
    // An array in an array in an array: five bytes for each, in one frame.
    const depth = 26_000;
    const nested = Buffer.alloc(depth * 5);
    for (let level = 0; level < depth; level++) {
      nested.write("A", level * 5);
      nested.writeUInt32BE((depth - level - 1) * 5, level * 5 + 1);
    }
    const poison = session.deliver(queue, { properties: { headers: table({ x: nested }) }, body: "{}" });
    const fields = { service: "shop", method: "order", params: {} };
    const healthy = session.deliver(queue, nuropb("command", fields));
    await untilSettled(session, 2);
    assert.deepEqual(session.all("basic.reject").map(({ fields }) => fields), [{
      deliveryTag: poison,
      requeue: 0,
    }]);
    assert.equal(session.all("basic.ack")[0]?.fields.deliveryTag, healthy);
  });
});

/** Waits until so many deliveries are settled, or the connection is gone. */
async function untilSettled(session: Session, count: number): Promise<void> {
  const settled = () => session.all("basic.ack").length + session.all("basic.reject").length;
  while (!session.closed && settled() < count) await new Promise((resolve) => setTimeout(resolve, 1));
  assert.equal(session.closed, false, "The connection was lost");
}
