import { AMQPView } from "@cloudamqp/amqp-client/amqp-view";
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, it } from "@std/testing/bdd";
import { ContentReader } from "../../src/transport/content_reader.ts";
import type { Received } from "../../src/transport/content_reader.ts";
import { content, frame, method, table } from "./fake_broker.ts";
import type { Fields } from "./fake_broker.ts";

/** A reader with all that it told, in order: messages with their channels, and other frames as digits. */
function recorded() {
  const messages: Received[] = [];
  const told: (readonly [channel: number, body: string] | string)[] = [];
  const reader = new ContentReader({
    onmessage(channel, message) {
      messages.push(message);
      told.push([channel, Buffer.from(message.body).toString()]);
    },
    onmethods: (frames) => void told.push(digits(frames)),
  });
  return { reader, messages, told };
}

/** The one message that these frames are. */
function readOne(...frames: Uint8Array[]): Received {
  const { reader, messages } = recorded();
  reader.read(Buffer.concat(frames));
  assert.equal(messages.length, 1);
  return messages[0]!;
}

const digits = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
const deliver = (channel: number, fields: Fields = {}) =>
  method(channel, "basic.deliver", { tag: "t", deliveryTag: 1, exchange: "x", routingKey: "y", ...fields });

/** Every property of AMQP's, with the bytes of a table. */
const properties = {
  contentType: "application/json",
  contentEncoding: "gzip",
  headers: table({ trace_id: "t", "é": "ü" }),
  deliveryMode: 2,
  priority: 9,
  correlationId: "c".repeat(32),
  replyTo: "amq.rabbitmq.reply-to.x",
  expiration: "30000",
  messageId: "m",
  timestamp: 1_700_000_000,
  type: "type",
  userId: "guest",
  appId: "app",
};
const names = Object.keys(properties) as (keyof typeof properties)[];

/** What the client makes of a content header's payload, as far as a mesh knows it. */
function readByClient(payload: Uint8Array): Received["properties"] {
  const view = new AMQPView(payload.buffer, payload.byteOffset, payload.byteLength);
  const [{ contentType, correlationId, replyTo, expiration, messageId, deliveryMode, headers = {} }] = view
    .getProperties(12);
  return {
    contentType,
    correlationId,
    replyTo,
    expiration,
    messageId,
    persistent: deliveryMode === 2,
    headers,
  };
}

/** The payload of a message's first frame, its content header. */
const headerOf = (frames: Uint8Array) => frames.subarray(7, 7 + Buffer.from(frames).readUInt32BE(3));

/** A field whose value begins with its size. */
function sized(type: string, value: Uint8Array): Buffer {
  const size = Buffer.alloc(4);
  size.writeUInt32BE(value.byteLength);
  return Buffer.concat([Buffer.from(type), size, value]);
}

/** A table's entry whose key need be no UTF-8. */
const entry = (key: Uint8Array, field: Uint8Array) => Buffer.concat([Buffer.of(key.byteLength), key, field]);

describe("a content reader", () => {
  it("reads the properties that are there, in all their combinations", () => {
    for (let set = 0; set < 2 ** names.length; set++) {
      const some = Object.fromEntries(
        names.filter((_, index) => set & (1 << index)).map((name) => [name, properties[name]]),
      );
      const frames = content(1, { properties: some, body: "b" });
      const message = readOne(deliver(1), frames);
      assert.deepEqual(message.properties, readByClient(headerOf(frames)), Object.keys(some).join());
      assert.equal(Buffer.from(message.body).toString(), "b");
    }
  });

  it("tells a delivery's address, tag and whether it came before", () => {
    for (const deliveryTag of [0, 1, 255, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 32 + 7, 2 ** 53 - 1]) {
      for (const redelivered of [0, 1]) {
        const fields = { deliveryTag, redelivered, exchange: "événements", routingKey: "orders.🐰" };
        const { body, properties: _, ...told } = readOne(deliver(3, fields), content(3, {}));
        assert.equal(body.length, 0);
        assert.deepEqual(told, {
          deliveryTag,
          redelivered: redelivered === 1,
          exchange: "événements",
          routingKey: "orders.🐰",
          oversize: undefined,
          isReturned: false,
        });
      }
    }
  });

  it("reads the largest names, and empty ones", () => {
    for (
      const name of ["", "x".repeat(63), "x".repeat(64), "x".repeat(65), "x".repeat(255), "é".repeat(127)]
    ) {
      const fields = { tag: name, exchange: name, routingKey: name };
      const message = readOne(
        deliver(1, fields),
        content(1, {
          properties: { correlationId: name, contentType: name, replyTo: name, messageId: name },
        }),
      );
      const { correlationId, contentType, replyTo, messageId } = message.properties;
      assert.deepEqual(
        [message.exchange, message.routingKey, correlationId, contentType, replyTo, messageId],
        Array(6).fill(name),
      );
    }
  });

  it("reads what comes back as such", () => {
    const { reader, messages } = recorded();
    reader.read(Buffer.concat([
      deliver(1, { deliveryTag: 77, redelivered: 1 }),
      content(1, { body: "delivered" }),
      method(1, "basic.return", { code: 312, text: "NO_ROUTE", exchange: "x", routingKey: "shop" }),
      content(1, { properties, body: "returned" }),
    ]));
    const [, back] = messages;
    assert.deepEqual(
      [back?.isReturned, back?.deliveryTag, back?.redelivered, back?.exchange, back?.routingKey],
      [true, 0, false, "x", "shop"],
    );
    assert.equal(Buffer.from(back!.body).toString(), "returned");
    assert.equal(back?.properties.messageId, "m");
  });

  it("puts a body together from any number of frames, and reads of any number of chunks", () => {
    const body = Uint8Array.from({ length: 1_000 }, (_, index) => index * 7 % 256);
    for (const part of [1, 2, 7, 100, 999, 1_000, 1_001]) {
      assert.deepEqual(readOne(deliver(1), content(1, { body }, part)).body, body);
      const { reader, messages } = recorded();
      for (const one of split(Buffer.concat([deliver(1), content(1, { body }, part)]))) reader.read(one);
      assert.deepEqual(messages.map((message) => message.body), [body]);
    }
  });

  it("tells a message with its last byte, and not before", () => {
    const { reader, messages } = recorded();
    const frames = split(Buffer.concat([deliver(1), content(1, { body: "abcdef" }, 2)]));
    for (const [index, one] of frames.entries()) {
      assert.equal(messages.length, 0);
      reader.read(one);
      assert.equal(messages.length, index === frames.length - 1 ? 1 : 0);
    }
  });

  it("passes over frames of a body that have none of it", () => {
    const nothing = frame(3, 1, new Uint8Array(0));
    const [header, ...parts] = split(content(1, { body: "ab" }, 1));
    const { reader, told } = recorded();
    reader.read(Buffer.concat([deliver(1), header!, nothing, parts[0]!, nothing, nothing, parts[1]!]));
    assert.deepEqual(told, [[1, "ab"]]);
  });

  it("keeps the messages of channels apart whose frames come between one another", () => {
    const streams = [1, 2, 2_047, 65_535].map((channel) =>
      split(Buffer.concat([
        deliver(channel, { routingKey: `to ${channel}` }),
        content(channel, { properties: { correlationId: `c${channel}` }, body: `body of ${channel}` }, 3),
      ]))
    );
    const { reader, messages, told } = recorded();
    while (streams.some((stream) => stream.length > 0)) {
      reader.read(Buffer.concat(streams.flatMap((stream) => stream.splice(0, 1))));
    }
    assert.deepEqual(
      told.toSorted(),
      [1, 2, 2_047, 65_535].map((channel) => [channel, `body of ${channel}`]).toSorted(),
    );
    for (const message of messages) {
      const channel = message.routingKey.slice(3);
      assert.equal(message.properties.correlationId, `c${channel}`);
      assert.equal(Buffer.from(message.body).toString(), `body of ${channel}`);
    }
  });

  it("passes on everything else in order, as whole frames, those in a row at once", () => {
    const ack = method(2, "basic.ack", { deliveryTag: 1 });
    const ok = method(0, "connection.open-ok");
    const beat = frame(8, 0, new Uint8Array(0));
    const short = frame(1, 0, Uint8Array.of(0, 60));
    const [header, ...parts] = split(content(1, { body: "abcd" }, 2));
    const frames = [ok, ack, deliver(1), header!, beat, parts[0]!, ack, short, parts[1]!, beat, ok];
    const { reader, told } = recorded();
    reader.read(Buffer.concat(frames));
    const expected = [[ok, ack], [beat], [ack, short], [], [beat, ok]].map((some) =>
      some.length === 0 ? [1, "abcd"] : digits(Buffer.concat(some))
    );
    assert.deepEqual(told, expected);
    told.length = 0;
    reader.read(new Uint8Array(0));
    for (const one of frames) reader.read(one);
    assert.deepEqual(told, [
      ...[ok, ack, beat, ack, short].map(digits),
      [1, "abcd"],
      digits(beat),
      digits(ok),
    ]);
  });

  it("passes over content that no method came before", () => {
    const { reader, told } = recorded();
    reader.read(Buffer.concat([content(1, { body: "nobody's" }), deliver(1), content(1, { body: "mine" })]));
    reader.read(content(1, { body: "too much" }));
    assert.deepEqual(told, [[1, "mine"]]);
  });

  it("takes a delivery whose predecessor never came to its end", () => {
    const { reader, told } = recorded();
    reader.read(Buffer.concat([deliver(1), content(1, { announced: 100, body: "only a part" })]));
    reader.read(Buffer.concat([deliver(1), deliver(1), content(1, { body: "whole" })]));
    assert.deepEqual(told, [[1, "whole"]]);
  });

  it("tells the size of a body that was dropped, of its message alone", () => {
    const { reader, messages } = recorded();
    reader.read(deliver(1));
    reader.drop(1, 2 ** 40);
    reader.read(Buffer.concat([
      deliver(2),
      content(2, { body: "other" }),
      content(1, {}),
      deliver(1),
      content(1, { body: "next" }),
    ]));
    assert.deepEqual(messages.map(({ oversize }) => oversize), [undefined, 2 ** 40, undefined]);
  });

  it("tells it of no later message, when the content that it was of was nobody's", () => {
    const { reader, messages } = recorded();
    reader.drop(1, 2 ** 40);
    reader.read(Buffer.concat([content(1, {}), deliver(1), content(1, { body: "next" })]));
    assert.deepEqual(messages.map(({ oversize }) => oversize), [undefined]);
  });

  it("gives copies, since the bytes that it reads are the socket's again", () => {
    const mixed = table({
      text: "text",
      bytes: sized("x", Buffer.of(1, 2, 3)),
      list: sized("A", sized("x", Buffer.of(4))),
      deep: sized(
        "F",
        table({ bytes: sized("x", Buffer.of(5)), list: sized("A", sized("F", table({ a: "b" }))) }),
      ),
    });
    const frames = Buffer.concat([deliver(1), content(1, { properties: { headers: mixed }, body: "body" })]);
    const { reader, messages } = recorded();
    // The socket's buffer has other bytes around what was read.
    const buffer = Buffer.concat([Buffer.alloc(11, 0xce), frames, Buffer.alloc(5, 0xce)]);
    reader.read(buffer.subarray(11, 11 + frames.byteLength));
    buffer.fill(0x41);
    const [{ body, properties: { headers } }] = messages as [Received];
    assert.equal(Buffer.from(body).toString(), "body");
    assert.deepEqual(headers, {
      text: "text",
      bytes: Uint8Array.of(1, 2, 3),
      list: [Uint8Array.of(4)],
      deep: { bytes: Uint8Array.of(5), list: [{ a: "b" }] },
    });
  });

  it("gives a short body in one frame as text, and bytes where it is long, in parts, or no UTF-8", () => {
    const one = (body: Uint8Array, frameSize?: number) =>
      readOne(deliver(1), content(1, { body }, frameSize)).body;
    for (const text of ["", "{}", "é🐰", "\ufeff{}", "x".repeat(16_384)]) {
      assert.equal(one(Buffer.from(text)), text);
    }
    for (const bytes of [Buffer.of(0xff), Buffer.of(0x22, 0xc3, 0x22), Buffer.of(0xed, 0xa0, 0x80)]) {
      assert.deepEqual(one(bytes), new Uint8Array(bytes));
    }
    assert.deepEqual(one(Buffer.from("x".repeat(16_385))), new Uint8Array(16_385).fill(0x78));
    assert.deepEqual(one(Buffer.from("abcd"), 3), Uint8Array.of(0x61, 0x62, 0x63, 0x64));
  });

  it("reads tables of texts that are no UTF-8, in keys and values and names", () => {
    const wrong = Buffer.of(0x61, 0xff, 0xc3);
    const read = "a\ufffd\ufffd";
    for (const more of [Buffer.alloc(0), entry(Buffer.from("mixed"), Buffer.from("t\x01"))]) {
      const headers = Buffer.concat([
        entry(wrong, sized("S", wrong)),
        entry(Buffer.from("é"), sized("S", Buffer.from("ü"))),
        entry(Buffer.from("void"), Buffer.from("V")),
        more,
      ]);
      const message = readOne(
        deliver(1, { exchange: wrong, routingKey: wrong }),
        content(1, { properties: { headers, correlationId: wrong, replyTo: wrong } }),
      );
      const expected = { [read]: read, "é": "ü", void: null };
      assert.deepEqual(
        message.properties.headers,
        more.byteLength > 0 ? { ...expected, mixed: true } : expected,
      );
      const { exchange, routingKey, properties: { correlationId, replyTo } } = message;
      assert.deepEqual([exchange, routingKey, correlationId, replyTo], Array(4).fill(read));
    }
  });

  const proto: readonly [what: string, field: Uint8Array][] = [
    ["a text", sized("S", Buffer.from("text"))],
    ["void", Buffer.from("V")],
    ["a table", sized("F", table({ polluted: "yes" }))],
    ["a list", sized("A", Buffer.from("V"))],
    ["bytes", sized("x", Buffer.of(1))],
  ];
  for (const [what, field] of proto) {
    it(`leaves a table what it is when ${what} is named __proto__`, () => {
      const polluting = entry(Buffer.from("__proto__"), field);
      for (const more of [{}, { mixed: Buffer.from("t\x01") }]) {
        const headers = Buffer.concat([polluting, table({ trace_id: "t", ...more })]);
        const read = readOne(deliver(1), content(1, { properties: { headers } })).properties.headers;
        assert.equal(read.trace_id, "t");
        assert.equal(Object.getPrototypeOf(read), Object.prototype);
        assert.equal(({} as Record<string, unknown>).polluted, undefined);
      }
    });
  }
});

describe("a content reader, of frames that are wrong,", () => {
  it("refuses a body that is longer than announced, wherever its frames end", () => {
    for (const [announced, part] of [[3, 4], [3, 2], [3, 100], [1, 2]] as const) {
      const { reader, told } = recorded();
      const frames = content(1, { body: "abcd", announced }, part);
      assert.throws(() => reader.read(Buffer.concat([deliver(1), frames])), /a body larger than/);
      assert.deepEqual(told, []);
    }
  });

  it("passes over what comes after an announced body, as it does without a method", () => {
    const { reader, told } = recorded();
    reader.read(Buffer.concat([deliver(1), content(1, { body: "abcd", announced: 2 }, 2)]));
    assert.deepEqual(told, [[1, "ab"]]);
  });

  it("refuses a body before its header", () => {
    const { reader } = recorded();
    assert.throws(
      () => reader.read(Buffer.concat([deliver(1), frame(3, 1, Buffer.from("x"))])),
      /without its header/,
    );
  });

  const upToLast: Fields = {
    contentType: "application/json",
    headers: table({ trace_id: "t", other: "value" }),
    deliveryMode: 2,
    correlationId: "correlation",
    replyTo: "reply",
    expiration: "1000",
    messageId: "message",
  };

  for (const [what, mixed] of [["of texts", {}], ["of all kinds", { yes: Buffer.from("t\x01") }]] as const) {
    it(`refuses properties that end after their frame, with headers ${what}`, () => {
      const headers = Buffer.concat([table(mixed), upToLast.headers as Uint8Array]);
      const payload = headerOf(content(1, { properties: { ...upToLast, headers } }));
      for (let size = 14; size < payload.byteLength; size++) {
        for (
          const after of [
            new Uint8Array(0),
            Buffer.concat([deliver(1), content(1, { properties: upToLast })]),
          ]
        ) {
          const { reader, told } = recorded();
          const cut = frame(2, 1, payload.subarray(0, size));
          assert.throws(() => reader.read(Buffer.concat([deliver(1), cut, after])), Error, `cut at ${size}`);
          assert.deepEqual(told, []);
        }
      }
      const whole = readOne(deliver(1), frame(2, 1, payload));
      assert.equal(whole.properties.messageId, "message");
    });
  }

  it("gives none of the properties where they are many and wrong, since the message would only come again", () => {
    const cut = table({ filler: "x".repeat(5_000), last: "value" });
    const unknown = table({ trace_id: "t", odd: Buffer.concat([Buffer.from("?"), Buffer.alloc(5_000)]) });
    for (const headers of [cut, unknown]) {
      const payload = headerOf(content(1, { properties: { headers, messageId: "message" } }));
      const wrong = frame(2, 1, headers === cut ? payload.subarray(0, -1) : payload);
      const { reader, messages } = recorded();
      reader.read(Buffer.concat([deliver(1), wrong, deliver(1), content(1, { body: "next" })]));
      assert.deepEqual(messages[0]?.properties, { headers: {} });
      assert.equal(Buffer.from(messages[1]!.body).toString(), "next");
    }
  });

  it("gives none of the properties where tables are nested too deep to be read", () => {
    let headers = table({ deepest: "x" });
    // Each size stands before what was written, so that this is put together from its parts.
    const parts: Uint8Array[] = [headers];
    let size = headers.byteLength;
    for (let depth = 0; depth < 15_000; depth++) {
      const head = Buffer.alloc(7);
      head.write("\x01aF", "latin1");
      head.writeUInt32BE(size, 3);
      parts.unshift(head);
      size += 7;
    }
    headers = Buffer.concat(parts);
    const { reader, messages } = recorded();
    reader.read(Buffer.concat([deliver(1), content(1, { properties: { headers }, body: "deep" })]));
    assert.equal(Buffer.from(messages[0]!.body).toString(), "deep");
    reader.read(Buffer.concat([deliver(1), content(1, { body: "next" })]));
    assert.equal(messages.length, 2);
  });

  it("gives tables within tables up to a depth, and nothing below", () => {
    let headers: Uint8Array = table({ deepest: "x" });
    for (let depth = 0; depth < 40; depth++) headers = table({ a: sized("F", headers) });
    const read = readOne(deliver(1), content(1, { properties: { headers } })).properties.headers;
    let depth = 0;
    for (let value: unknown = read; value !== null; value = (value as Record<string, unknown>).a) depth++;
    assert.equal(depth, 16);
  });
});

/** Cuts whole frames apart. */
function split(bytes: Uint8Array): Uint8Array[] {
  const frames: Uint8Array[] = [];
  for (let rest = Buffer.from(bytes); rest.byteLength > 0;) {
    const size = 8 + rest.readUInt32BE(3);
    frames.push(rest.subarray(0, size));
    rest = rest.subarray(size);
  }
  return frames;
}
