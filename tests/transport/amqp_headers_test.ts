import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { serve } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import type { Delivery } from "../../src/transport/transport.ts";
import {
  content,
  FakeBroker,
  method,
  noticeRejections,
  nuropb,
  openConnection,
  plain,
  table,
  until,
} from "./fake_broker.ts";
import type { Content, Fields } from "./fake_broker.ts";

/** A field: its type, and its value's bytes. */
const field = (type: string, ...bytes: number[]) => Buffer.concat([Buffer.from(type), Buffer.from(bytes)]);
/** A field whose value begins with its size. */
const sized = (type: string, value: Uint8Array) => {
  const size = Buffer.alloc(4);
  size.writeUInt32BE(value.byteLength);
  return Buffer.concat([Buffer.from(type), size, value]);
};

/** Every type of field that RabbitMQ knows. */
const fields: Readonly<Record<string, [wire: Uint8Array, value: unknown]>> = {
  text: [sized("S", Buffer.from("héllo 🐰")), "héllo 🐰"],
  emptyText: [sized("S", Buffer.alloc(0)), ""],
  no: [field("t", 0), false],
  yes: [field("t", 1), true],
  signed8: [field("b", 0xff), -1],
  unsigned8: [field("B", 0xff), 255],
  signed16: [field("s", 0xff, 0xfe), -2],
  unsigned16: [field("u", 0xff, 0xfe), 65_534],
  signed32: [field("I", 0xff, 0xff, 0xff, 0xfd), -3],
  unsigned32: [field("i", 0xff, 0xff, 0xff, 0xfd), 4_294_967_293],
  signed64: [field("l", 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfc), -4],
  large64: [field("l", 0, 0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), Number.MAX_SAFE_INTEGER],
  float: [field("f", 0x3f, 0xc0, 0, 0), 1.5],
  double: [field("d", 0x40, 0x09, 0x21, 0xfb, 0x54, 0x44, 0x2d, 0x18), Math.PI],
  notANumber: [field("d", 0x7f, 0xf8, 0, 0, 0, 0, 0, 0), NaN],
  decimal: [field("D", 2, 0, 0, 0x01, 0x41), 3.21],
  time: [field("T", 0, 0, 0, 0, 0x65, 0x92, 0, 0x80), new Date("2024-01-01T00:00:00Z")],
  nothing: [field("V"), null],
  bytes: [sized("x", Buffer.of(1, 2, 3)), Uint8Array.of(1, 2, 3)],
  noBytes: [sized("x", Buffer.alloc(0)), new Uint8Array(0)],
  list: [sized("A", Buffer.concat([field("t", 1), sized("S", Buffer.from("a")), sized("x", Buffer.of(4))])), [
    true,
    "a",
    Uint8Array.of(4),
  ]],
  emptyList: [sized("A", Buffer.alloc(0)), []],
  table: [sized("F", table({ inner: "b", deep: sized("F", table({ bytes: sized("x", Buffer.of(5)) })) })), {
    inner: "b",
    deep: { bytes: Uint8Array.of(5) },
  }],
  emptyTable: [sized("F", Buffer.alloc(0)), {}],
};
const wireHeaders = table(Object.fromEntries(Object.entries(fields).map(([name, [wire]]) => [name, wire])));
const values = Object.fromEntries(Object.entries(fields).map(([name, [, value]]) => [name, value]));

/** Any time and number that a peer may set, within the type or not. */
const oddProperties: readonly [what: string, properties: Fields][] = [
  ["a time far beyond what a Date can hold", { timestamp: 2 ** 62 }],
  ["a time before all times", { timestamp: 2 ** 63 }],
  ["a delivery mode and a priority that do not exist", { deliveryMode: 255, priority: 255 }],
  ["an expiration that is no number", { expiration: "soon" }],
  ["an expiration beyond all timers", { expiration: "99999999999999999999" }],
  ["an expiration of zero", { expiration: "0" }],
  ["texts of the largest size", {
    correlationId: "c".repeat(255),
    messageId: "m".repeat(255),
    appId: "a".repeat(255),
  }],
  ["empty texts", {
    correlationId: "",
    messageId: "",
    contentType: "",
    contentEncoding: "",
    type: "",
    userId: "",
  }],
];

describe("the headers of a message", () => {
  noticeRejections();

  it("are read, of every type, for an answer", async () => {
    await using broker = await FakeBroker.start();
    const { connection, replies } = await openConnection(broker);
    broker.session.deliver("amq.rabbitmq.reply-to", { properties: { headers: wireHeaders } });
    await until(() => replies.length === 1);
    assert.deepEqual(replies[0]?.properties.headers, values);
    await connection.close();
  });

  it("are read, of every type, for a delivery", async () => {
    await using broker = await FakeBroker.start();
    const { connection } = await openConnection(broker);
    const deliveries: Delivery[] = [];
    await connection.consume({ queue: "q", topology: [], prefetch: 1 }, {
      ondelivery: (delivery) => deliveries.push(delivery),
      onend: () => {},
    });
    broker.session.deliver("q", { properties: { headers: wireHeaders, deliveryMode: 2 } }, {
      redelivered: 1,
    });
    await until(() => deliveries.length === 1);
    assert.deepEqual(deliveries[0]?.properties.headers, values);
    assert.equal(deliveries[0]?.properties.persistent, true);
    assert.equal(deliveries[0]?.redelivered, true);
    await connection.close();
  });

  it("are read, of every type, for a message that comes back", async () => {
    await using broker = await FakeBroker.start();
    const { connection, returns } = await openConnection(broker);
    const { channel } = broker.session.consumers.get("amq.rabbitmq.reply-to")!;
    broker.session.send(
      method(channel, "basic.return", { code: 312, text: "NO_ROUTE", exchange: "x", routingKey: "y" }),
      content(channel, { properties: { headers: wireHeaders } }),
    );
    await until(() => returns.length === 1);
    assert.deepEqual(returns[0]?.properties.headers, values);
    await connection.close();
  });

  it("stay as they are when more comes in: their bytes are copies", async () => {
    await using broker = await FakeBroker.start();
    const { connection, replies } = await openConnection(broker);
    const { session } = broker;
    session.deliver("amq.rabbitmq.reply-to", { properties: { headers: wireHeaders } });
    await until(() => replies.length === 1);
    // Enough for the socket's buffer to be filled anew, each time with other bytes.
    for (let round = 2; round <= 20; round++) {
      session.deliver("amq.rabbitmq.reply-to", { body: Buffer.alloc(70_000, round) });
      await until(() => replies.length === round);
    }
    assert.deepEqual(replies[0]?.properties.headers, values);
    const whole = bytesWithin(replies[0]!.properties.headers);
    assert.equal(whole.length, 4);
    for (const bytes of whole) assert.equal(bytes.buffer.byteLength, bytes.byteLength);
    await connection.close();
  });

  it("may name what every object has", async () => {
    await using broker = await FakeBroker.start();
    const { connection, replies } = await openConnection(broker);
    const names = ["__proto__", "constructor", "toString", "hasOwnProperty", ""];
    const polluted = sized("F", table({ polluted: "yes" }));
    const headers = table(
      Object.fromEntries(names.filter((name) => name !== "__proto__").map((name) => [name, "x"])),
    );
    const proto = table(Object.fromEntries([["__proto__", polluted]]));
    broker.session.deliver("amq.rabbitmq.reply-to", {
      properties: { headers: Buffer.concat([headers, proto]) },
    });
    await until(() => replies.length === 1);
    assert.equal(({} as Record<string, unknown>).polluted, undefined);
    await connection.close();
  });

  it("may be absent", async () => {
    await using broker = await FakeBroker.start();
    const { connection, replies } = await openConnection(broker);
    broker.session.deliver("amq.rabbitmq.reply-to", { body: "x" });
    await until(() => replies.length === 1);
    assert.deepEqual(replies[0]?.properties.headers, {});
    assert.equal(replies[0]?.properties.correlationId, undefined);
    await connection.close();
  });

  it("may be of every type beside those of a request, which is answered", async () => {
    await using broker = await FakeBroker.start();
    await using _service = await serve({ order: () => "done" }, { url: broker.url, name: "shop" });
    const request = nuropb("request", { service: "shop", method: "order", params: {} });
    const headers = Buffer.concat([request.properties!.headers as Uint8Array, wireHeaders]);
    const message: Content = { ...request, properties: { ...request.properties, headers } };
    broker.session.deliver("nuropb-shop-sq", message);
    await until(() => broker.session.all("basic.ack").length === 1);
    assert.match(broker.session.published[0]!.body.toString(), /"result":"done"/);
  });
});

describe("the properties of a message", () => {
  noticeRejections();

  for (const [what, odd] of oddProperties) {
    it(`do no harm, whatever they are: ${what}`, async () => {
      await using broker = await FakeBroker.start();
      await using service = await serve({ order: () => "done" }, { url: broker.url, name: "shop" });
      const { session } = broker;
      const request = nuropb("request", { service: "shop", method: "order", params: {} });
      const properties = { ...request.properties, ...odd };
      session.deliver("nuropb-shop-sq", { ...request, properties });
      session.deliver("amq.rabbitmq.reply-to", { ...nuropb("response", { result: 1 }), properties });
      await until(() => session.all("basic.ack").length + session.all("basic.reject").length === 1);
      assert.equal(await service.mesh.request("shop", "order", {}, plain), "pong");
      assert.equal(broker.sessions.length, 1);
    });
  }

  for (
    const replyTo of [
      "amq.rabbitmq.reply-to.x",
      `nuropb-${"é".repeat(120)}-rq`,
      `nuropb-${"\ufffd".repeat(80)}-rq`,
    ]
  ) {
    it(`name where the answer goes: ${replyTo.slice(0, 30)}`, async () => {
      await using broker = await FakeBroker.start();
      await using _service = await serve({ order: () => "done" }, { url: broker.url, name: "shop" });
      const request = nuropb("request", { service: "shop", method: "order", params: {} });
      broker.session.deliver("nuropb-shop-sq", {
        ...request,
        properties: { ...request.properties, replyTo },
      });
      await until(() => broker.session.all("basic.ack").length === 1);
      assert.equal(broker.session.published[0]?.routingKey, replyTo);
      assert.equal(broker.session.published[0]?.exchange, "");
    });
  }

  it("that no answer could carry back leave the request to the dead letters, and the next one works", async () => {
    await using broker = await FakeBroker.start();
    await using _service = await serve({ order: () => "done" }, { url: broker.url, name: "shop" });
    const { session } = broker;
    const call = { service: "shop", method: "order", params: {} };
    const tags = [
      // A correlation id is a short string in the properties of the answer.
      session.deliver("nuropb-shop-sq", nuropbWith({ ...call, correlation_id: "c".repeat(300) })),
      // A trace id goes into the headers of the answer.
      session.deliver("nuropb-shop-sq", nuropbWith({ ...call, trace_id: "t".repeat(200_000) })),
    ];
    session.deliver("nuropb-shop-sq", nuropb("request", call));
    await until(() => session.all("basic.ack").length === 1);
    assert.deepEqual(session.all("basic.reject").map(({ fields }) => fields.deliveryTag), tags);
    assert.equal(session.published.length, 1);
  });
});

/** A request whose body says something else than its properties. */
function nuropbWith(body: Record<string, unknown>): Content {
  const { properties } = nuropb("request", {});
  return { properties: properties!, body: nuropb("request", body).body! };
}

/** Every byte array within a value. */
function bytesWithin(value: unknown): Uint8Array[] {
  if (value instanceof Uint8Array) return [value];
  if (typeof value !== "object" || value === null) return [];
  return Object.values(value).flatMap(bytesWithin);
}
