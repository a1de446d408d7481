import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, it } from "@std/testing/bdd";
import { NuropbMessageError } from "../../src/errors.ts";
import type { Message } from "../../src/message.ts";
import { AmqpConsumer } from "../../src/transport/amqp_consumer.ts";
import { ContentWriter } from "../../src/transport/content_writer.ts";
import type { Delivery } from "../../src/transport/transport.ts";
import { WriteBuffer } from "../../src/transport/write_buffer.ts";
import { openReceiver, QUEUE } from "../properties/receiver.ts";
import type { Receiver } from "../properties/receiver.ts";
import { content, method, noticeRejections, table, until } from "./fake_broker.ts";
import type { Fields } from "./fake_broker.ts";

const FRAME_MAX = 131_072;
/** Up to this size a body is put together with what stands before it. */
const SMALL_BODY = 16_384;

/** A writer with what it wrote. */
function recorded(limit = FRAME_MAX) {
  const writes: Uint8Array[] = [];
  const output = new WriteBuffer((bytes) => writes.push(bytes));
  const writer = new ContentWriter(output, limit);
  return {
    write: (message: Message, frameMax = limit, mandatory = false, channel = 1) =>
      writer.write(channel, message, mandatory, frameMax),
    /** What was written since the last time. */
    take(): Buffer {
      output.flush();
      return Buffer.concat(writes.splice(0));
    },
  };
}

function message(properties: Partial<Message["properties"]>, body: string | Uint8Array = ""): Message {
  return {
    exchange: "x",
    routingKey: "y",
    properties: { headers: {}, ...properties },
    body: Buffer.from(body as string),
  };
}

/** The frames that a message must become. */
function framesOf(
  { exchange, routingKey, body }: Message,
  properties: Fields,
  frameMax = FRAME_MAX,
  mandatory = false,
  channel = 1,
): Buffer {
  const fields = { exchange, routingKey, flags: mandatory ? 1 : 0 };
  return Buffer.concat([
    method(channel, "basic.publish", fields),
    content(channel, { properties, body }, frameMax - 8),
  ]);
}

const nothing = { headers: new Uint8Array(0) };
const tooLarge = (error: unknown) =>
  error instanceof NuropbMessageError && error.code === "MESSAGE_TOO_LARGE";
/** Bytes that differ from place to place. */
const bytes = (size: number) => Uint8Array.from({ length: size }, (_, index) => index * 7 % 251);

describe("a content writer", () => {
  it("writes a message with all that it has", () => {
    const { write, take } = recorded();
    const full: Message = {
      exchange: "événements",
      routingKey: "orders.🐰",
      body: Buffer.from("body"),
      properties: {
        contentType: "application/json",
        correlationId: "c".repeat(32),
        replyTo: "amq.rabbitmq.reply-to",
        expiration: "30000",
        messageId: "m".repeat(255),
        persistent: true,
        headers: {
          trace_id: "t",
          nothing: null,
          missing: undefined,
          empty: "",
          "é": "ü".repeat(100),
          ["k".repeat(255)]: "v",
        },
      },
    };
    const properties = {
      contentType: "application/json",
      headers: table({
        trace_id: "t",
        nothing: Buffer.from("V"),
        empty: "",
        "é": "ü".repeat(100),
        ["k".repeat(255)]: "v",
      }),
      deliveryMode: 2,
      correlationId: "c".repeat(32),
      replyTo: "amq.rabbitmq.reply-to",
      expiration: "30000",
      messageId: "m".repeat(255),
    };
    for (const mandatory of [false, true]) {
      for (const channel of [1, 256, 65_535]) {
        write(full, FRAME_MAX, mandatory, channel);
        assert.deepEqual(take(), framesOf(full, properties, FRAME_MAX, mandatory, channel));
      }
    }
  });

  it("leaves out what is not there or empty, whatever was written before", () => {
    const { write, take } = recorded();
    write(
      message(
        { contentType: "t", correlationId: "c", replyTo: "r", messageId: "m", headers: { a: "b" } },
        "body",
      ),
    );
    take();
    const empty = message({
      contentType: "",
      correlationId: "",
      replyTo: "",
      expiration: "",
      messageId: "",
      persistent: false,
    });
    for (const without of [message({}), empty]) {
      write(without);
      assert.deepEqual(take(), framesOf(without, nothing));
    }
  });

  for (const frameMax of [4_096, 8_192, SMALL_BODY, SMALL_BODY + 8, SMALL_BODY + 9, FRAME_MAX]) {
    it(`cuts bodies of all sizes into frames of at most ${frameMax} bytes`, () => {
      const { write, take } = recorded();
      const around = [SMALL_BODY, frameMax, frameMax - 8, 2 * (frameMax - 8), 3 * (frameMax - 8)];
      for (const size of [0, 1, 100_000, ...around.flatMap((size) => [size - 1, size, size + 1])]) {
        const large = message({ headers: { a: "b" } }, bytes(size));
        write(large, frameMax);
        const written = take();
        assert.ok(written.equals(framesOf(large, { headers: table({ a: "b" }) }, frameMax)), `${size} bytes`);
      }
    });
  }

  it("keeps no hold on a body, which is the caller's again", () => {
    const { write, take } = recorded();
    for (const size of [10, SMALL_BODY + 1, 2 * FRAME_MAX]) {
      const body = bytes(size);
      const own: Message = { ...message({}), body };
      const expected = framesOf(own, nothing);
      write(own);
      body.fill(0);
      assert.ok(take().equals(expected));
    }
  });

  it("writes a body that is a part of a larger buffer", () => {
    const { write, take } = recorded();
    for (const size of [10, 40_000, 300_000]) {
      const part: Message = { ...message({}), body: bytes(size + 20).subarray(7, 7 + size) };
      write(part);
      assert.ok(take().equals(framesOf({ ...part, body: part.body.slice() }, nothing)));
    }
  });

  for (const [what, more] of [["texts", {}], ["all kinds", { yes: true }]] as const) {
    it(`takes headers of ${what} that fill a frame, and refuses a byte more, of which nothing is written`, () => {
      for (const frameMax of [4_096, FRAME_MAX]) {
        const { write, take } = recorded();
        const size = (value: string) => {
          write(message({ headers: { value, ...more }, correlationId: "c" }));
          const written = take();
          return written.readUInt32BE(7 + written.readUInt32BE(3) + 1 + 3) + 8;
        };
        const room = frameMax - size("");
        assert.equal(size("x".repeat(room)), frameMax);
        for (const over of [room + 1, room + 2, frameMax, frameMax + SMALL_BODY + 600, 10 * FRAME_MAX]) {
          for (const text of ["x".repeat(over), "é".repeat(over >> 1) + "xx"]) {
            const large = message({ headers: { value: text, ...more }, correlationId: "c" }, "body");
            assert.throws(() => write(large, frameMax), tooLarge);
            assert.equal(take().byteLength, 0);
          }
        }
        write(message({}, "next"), frameMax);
        assert.deepEqual(take(), framesOf(message({}, "next"), nothing, frameMax));
      }
    });
  }

  it("takes a body of the largest size that is put together, behind the largest header and the longest names", () => {
    const { write, take } = recorded();
    const names = { exchange: "e".repeat(255), routingKey: "r".repeat(255) };
    // Less what stands around the one value: frame, class, size, flags, and the sizes and the name in the table.
    const headers = { f: "x".repeat(FRAME_MAX - 8 - 14 - 4 - 2 - 5) };
    for (const size of [SMALL_BODY, SMALL_BODY + 1]) {
      const large = { ...message({ headers }, bytes(size)), ...names };
      write(large);
      const written = take();
      assert.equal(written.readUInt32BE(written.indexOf(0xce) + 4), FRAME_MAX - 8);
      assert.ok(written.equals(framesOf(large, { headers: table(headers) })));
    }
  });

  it("refuses properties and names of headers over 255 bytes, of which nothing is written", () => {
    const { write, take } = recorded();
    for (const long of ["x".repeat(256), "é".repeat(128), "x".repeat(70_000), "x".repeat(1_000_000)]) {
      for (const property of ["contentType", "correlationId", "replyTo", "expiration", "messageId"]) {
        assert.throws(() => write(message({ [property]: long }, "body")), tooLarge, property);
      }
      for (const value of ["text", null, 1]) {
        assert.throws(() => write(message({ headers: { [long]: value } }, "body")), tooLarge);
      }
      assert.equal(take().byteLength, 0);
    }
  });

  it("refuses an exchange and a routing key over 255 bytes, of which nothing is written", () => {
    const { write, take } = recorded();
    for (const long of ["x".repeat(256), "é".repeat(128), "x".repeat(1_000_000)]) {
      assert.throws(() => write({ ...message({}), exchange: long }));
      assert.throws(() => write({ ...message({}), routingKey: long }));
    }
    assert.equal(take().byteLength, 0);
    write(message({}, "next"));
    assert.deepEqual(take(), framesOf(message({}, "next"), nothing));
  });

  it("refuses a header that no field can be, of which nothing is written", () => {
    const { write, take } = recorded();
    for (const value of [Symbol("s"), () => {}, { deep: Symbol("s") }, [() => {}]]) {
      assert.throws(() => write(message({ headers: { before: "text", value } }, "body")), NuropbMessageError);
    }
    assert.equal(take().byteLength, 0);
  });

  it("makes no header of what every object inherits", () => {
    const { write, take } = recorded();
    Object.defineProperty(Object.prototype, "inherited", {
      value: "x",
      enumerable: true,
      configurable: true,
    });
    try {
      write(message({ headers: { own: "text" } }));
      write(message({ headers: { own: "text", yes: true } }));
      write(message({ headers: {} }));
    } finally {
      Reflect.deleteProperty(Object.prototype, "inherited");
    }
    const headers = [
      table({ own: "text" }),
      table({ own: "text", yes: Buffer.from("t\x01") }),
      new Uint8Array(0),
    ];
    assert.deepEqual(take(), Buffer.concat(headers.map((headers) => framesOf(message({}), { headers }))));
  });

  it("makes a header of an own property whatever its name", () => {
    const { write, take } = recorded();
    const names = ["__proto__", "constructor", "hasOwnProperty", "toString", "", "0"];
    const headers = Object.fromEntries(names.map((name) => [name, "text"]));
    write(message({ headers }));
    write(message({ headers: Object.assign(Object.create(null), { own: "text" }) }));
    assert.deepEqual(
      take(),
      Buffer.concat(
        [table(headers), table({ own: "text" })].map((headers) => framesOf(message({}), { headers })),
      ),
    );
  });

  it("writes halves of surrogate pairs as the character for what is none", () => {
    const { write, take } = recorded();
    for (const half of ["\ud800", "\udc00", "a\ud83db", "\udc30\ud83d", `${"x".repeat(100)}\ud83d`]) {
      const whole = half.replace(/[\ud800-\udfff]/g, "\ufffd");
      const odd = { ...message({ correlationId: half, headers: { [half]: half } }), routingKey: half };
      write(odd);
      const expected = { correlationId: whole, headers: table({ [whole]: whole }) };
      assert.deepEqual(take(), framesOf({ ...odd, routingKey: whole }, expected));
    }
  });
});

describe("acknowledgments", () => {
  noticeRejections();

  /** A consumer that was delivered so many messages; what it answers is taken by `settled`. */
  async function delivered(count: number) {
    const receiver = await openReceiver();
    const { session, socket, deliveries } = receiver;
    for (let index = 0; index < count; index++) socket.ondata(session.delivery(QUEUE, { body: "{}" }));
    assert.equal(deliveries.length, count);
    return { ...receiver, settled: (from = 0) => settled(receiver, from) };
  }

  /** What the broker was told, as in `ack 3+` for the third and all before it. */
  async function settled({ session }: Receiver, from: number): Promise<string[]> {
    await turn();
    return session.received.slice(from).flatMap(({ name, fields }) => {
      if (name === "basic.ack") return [`ack ${fields.deliveryTag}${fields.multiple === 1 ? "+" : ""}`];
      if (name === "basic.reject") {
        return [`${fields.requeue === 1 ? "requeue" : "reject"} ${fields.deliveryTag}`];
      }
      return name === "basic.publish" || name === "channel.close" || name === "connection.close" ||
          name === "basic.cancel"
        ? [name]
        : [];
    });
  }

  /** Lets everything leave that waits, and come in. */
  const turn = () => new Promise<void>((resolve) => setTimeout(resolve));

  const orders: readonly [what: string, acked: readonly number[], told: readonly string[]][] = [
    ["one by itself", [1], ["ack 1"]],
    ["those in a row as one", [1, 2, 3, 4, 5], ["ack 5+"]],
    ["those in a row as one, in whatever order they were done", [3, 5, 1, 4, 2], ["ack 5+"]],
    ["those after one that is not done one by one", [2, 3, 5], ["ack 2", "ack 3", "ack 5"]],
    ["those before one that is not done as one, and those after it one by one", [1, 2, 4, 5], [
      "ack 2+",
      "ack 4",
      "ack 5",
    ]],
    ["those before it as one though they were done last", [5, 2, 1], ["ack 2+", "ack 5"]],
  ];
  for (const [what, acked, told] of orders) {
    it(`of one turn tell the broker of ${what}`, async () => {
      const { amqp, session, deliveries, settled } = await delivered(5);
      for (const tag of acked) deliveries[tag - 1]!.ack();
      assert.deepEqual(await settled(), told);
      assert.deepEqual(session.acked.toSorted(), acked.toSorted());
      amqp.end();
    });
  }

  it("of many turns stand for nothing that an earlier one told", async () => {
    const { amqp, session, deliveries, settled } = await delivered(6);
    deliveries[3]!.ack();
    assert.deepEqual(await settled(), ["ack 4"]);
    deliveries[0]!.ack();
    deliveries[1]!.ack();
    assert.deepEqual(await settled(), ["ack 4", "ack 2+"]);
    deliveries[2]!.ack();
    assert.deepEqual(await settled(), ["ack 4", "ack 2+", "ack 3"]);
    deliveries[4]!.ack();
    deliveries[5]!.ack();
    assert.deepEqual(await settled(), ["ack 4", "ack 2+", "ack 3", "ack 6+"]);
    assert.deepEqual(session.acked, [4, 1, 2, 3, 5, 6]);
    amqp.end();
  });

  for (const [how, told] of [["reject", "reject"], ["requeue", "requeue"]] as const) {
    it(`leave before a ${how} that comes after them, and none of them stands for it`, async () => {
      const { amqp, session, deliveries, settled } = await delivered(6);
      deliveries[0]!.ack();
      deliveries[1]!.ack();
      deliveries[2]![how]();
      deliveries[3]!.ack();
      deliveries[5]!.ack();
      deliveries[4]![how]();
      assert.deepEqual(await settled(), ["ack 2+", `${told} 3`, "ack 4", "ack 6", `${told} 5`]);
      assert.deepEqual(session.acked, [1, 2, 4, 6]);
      amqp.end();
    });
  }

  it("of the same turn as a reject before them stand for none but themselves", async () => {
    const { amqp, session, deliveries, settled } = await delivered(4);
    deliveries[0]!.reject();
    deliveries[1]!.ack();
    deliveries[2]!.ack();
    deliveries[3]!.ack();
    assert.deepEqual(await settled(), ["reject 1", "ack 4+"]);
    assert.deepEqual(session.acked, [2, 3, 4]);
    amqp.end();
  });

  it("tell the broker once of a delivery that was settled twice", async () => {
    const { amqp, deliveries, settled } = await delivered(2);
    deliveries[0]!.ack();
    deliveries[0]!.ack();
    deliveries[0]!.reject();
    assert.deepEqual(await settled(), ["ack 1"]);
    amqp.end();
  });

  it("leave after the answers of the same turn, in one write with them", async () => {
    const { amqp, session, deliveries, settled } = await delivered(3);
    for (const delivery of deliveries) {
      delivery.reply({
        exchange: "",
        routingKey: "r",
        properties: { headers: {} },
        body: Buffer.from("answer"),
      });
      delivery.ack();
    }
    assert.deepEqual(await settled(), ["basic.publish", "basic.publish", "basic.publish", "ack 3+"]);
    const chunks = session.received.slice(-4).map(({ chunk }) => chunk);
    assert.equal(new Set(chunks).size, 1);
    assert.equal(session.published.length, 3);
    amqp.end();
  });

  it("leave before the channel is closed right after them", async () => {
    const { amqp, channel, deliveries, settled } = await delivered(2);
    for (const delivery of deliveries) delivery.ack();
    await amqp.channels[channel]!.close();
    assert.deepEqual(await settled(), ["ack 2+", "channel.close"]);
    amqp.end();
  });

  it("leave before the consumer is cancelled right after them", async () => {
    const { amqp, channel, deliveries, settled } = await delivered(2);
    for (const delivery of deliveries) delivery.ack();
    await amqp.channels[channel]!.basicCancel("nuropb");
    assert.deepEqual(await settled(), ["ack 2+", "basic.cancel"]);
    amqp.end();
  });

  it("leave before the connection is closed right after them", async () => {
    const { amqp, deliveries, settled } = await delivered(2);
    for (const delivery of deliveries) delivery.ack();
    await amqp.shutdown();
    assert.deepEqual(await settled(), ["ack 2+", "connection.close"]);
  });

  it("are nothing once the broker has closed the channel", async () => {
    const { amqp, channel, session, socket, deliveries, settled } = await delivered(3);
    deliveries[0]!.ack();
    socket.ondata(method(channel, "channel.close", { code: 406, text: "PRECONDITION_FAILED - timeout" }));
    deliveries[1]!.ack();
    deliveries[2]!.reject();
    await until(() => session.all("channel.close-ok").length === 1);
    const last = session.received.findIndex(({ name }) => name === "channel.close-ok");
    assert.deepEqual(await settled(last), []);
    amqp.end();
  });

  it("leave nothing to keep behind an earlier delivery that takes long", async () => {
    const collections: { readonly size: number }[] = [];
    const { Set: PlainSet, Map: PlainMap } = globalThis;
    class CountedSet<Value> extends PlainSet<Value> {
      constructor(values?: Iterable<Value>) {
        super(values);
        collections.push(this);
      }
    }
    class CountedMap<Key, Value> extends PlainMap<Key, Value> {
      constructor(entries?: Iterable<readonly [Key, Value]>) {
        super(entries);
        collections.push(this);
      }
    }
    Object.assign(globalThis, { Set: CountedSet, Map: CountedMap });
    const { amqp, session, socket, deliveries } = await delivered(1).finally(() =>
      Object.assign(globalThis, { Set: PlainSet, Map: PlainMap })
    );
    assert.ok(collections.length > 0);
    for (let count = 0; count < 3_000; count++) {
      socket.ondata(session.delivery(QUEUE, { body: "{}" }));
      deliveries.pop()!.ack();
    }
    await turn();
    assert.equal(session.acked.length, 3_000);
    const sizes = collections.map(({ size }) => size);
    assert.ok(Math.max(...sizes) < 300, `${sizes}`);
    amqp.end();
  });

  it("of two consumers of one connection are told each on its own channel", async () => {
    const { amqp, channel, session, socket, deliveries } = await delivered(3);
    const others: Delivery[] = [];
    const handlers = { ondelivery: (delivery: Delivery) => void others.push(delivery), onend: () => {} };
    const other = amqp.openChannel();
    await new AmqpConsumer(amqp, other, handlers).open({ queue: "other", topology: [], prefetch: 9 });
    // Tags count by channel.
    for (const deliveryTag of [1, 2]) {
      socket.ondata(session.delivery("other", { body: "{}" }, { deliveryTag }));
    }
    deliveries[2]!.ack();
    others[1]!.ack();
    deliveries[0]!.ack();
    others[0]!.ack();
    await turn();
    const told = (id: number) =>
      session.all("basic.ack").flatMap(({ channel, fields: { deliveryTag, multiple } }) =>
        channel === id ? [[deliveryTag, multiple]] : []
      );
    assert.deepEqual(told(channel), [[1, 0], [3, 0]]);
    assert.deepEqual(told(other.id), [[2, 1]]);
    amqp.end();
  });
});
