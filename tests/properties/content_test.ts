import { AMQPView } from "@cloudamqp/amqp-client/amqp-view";
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import fc from "fast-check";
import { describe, it } from "@std/testing/bdd";
import { NuropbMessageError } from "../../src/errors.ts";
import { bytesOf } from "../../src/message.ts";
import type { Message } from "../../src/message.ts";
import { ContentReader } from "../../src/transport/content_reader.ts";
import type { Received } from "../../src/transport/content_reader.ts";
import { ContentWriter } from "../../src/transport/content_writer.ts";
import { TextCache } from "../../src/transport/text.ts";
import { WriteBuffer } from "../../src/transport/write_buffer.ts";
import { content, frame, method, noticeRejections } from "../transport/fake_broker.ts";
import { damaged, damages, keys, texts } from "./arbitraries.ts";
import { tables } from "./field_tables.ts";
import { check, checkAsync, outcomeOf } from "./property.ts";
import { openReceiver, QUEUE } from "./receiver.ts";

const FRAME_MAX = 131_072;
/** Around the sizes from which on bodies are written by themselves, or cut. */
const bodySizes = fc.oneof(
  { weight: 4, arbitrary: fc.nat(300) },
  fc.nat(40_000),
  fc.tuple(fc.constantFrom(4_088, 8_176, 8_184, 16_384, 131_064), fc.integer({ min: -1, max: 1 }))
    .map(([size, more]) => size + more),
);
const bodies = fc.tuple(bodySizes, fc.nat(250)).map(([size, seed]) =>
  Uint8Array.from({ length: size }, (_, index) => (index * 7 + seed) % 251)
);

/** Texts of all kinds, some around 64 bytes and some long. */
const values = fc.oneof(
  { weight: 4, arbitrary: texts },
  fc.tuple(fc.constantFrom("x", "é", "\ufeff", "🐰", "\ud83d"), fc.integer({ min: 60, max: 68 }))
    .map(([text, count]) => text.repeat(count)),
  fc.tuple(texts, fc.integer({ min: 1, max: 400 })).map(([text, count]) => text.repeat(count)),
);
const names = fc.oneof({ weight: 20, arbitrary: keys }, values);

/** Header tables with leaves of such a kind. */
function headersOf(leaf: fc.Arbitrary<unknown>): fc.Arbitrary<Record<string, unknown>> {
  const objects = (values: fc.Arbitrary<unknown>) =>
    fc.array(fc.tuple(names, values), { maxLength: 5 }).map((entries) => Object.fromEntries(entries));
  const { field } = fc.letrec<{ field: unknown }>((tie) => ({
    field: fc.oneof(
      { depthSize: "small", maxDepth: 4 },
      { weight: 4, arbitrary: leaf },
      objects(tie("field")),
      fc.array(tie("field"), { maxLength: 3 }),
    ),
  }));
  const plain = fc.oneof({ weight: 6, arbitrary: values }, fc.constantFrom(null, undefined));
  return fc.oneof(objects(plain), objects(field));
}

function messagesOf(headers: fc.Arbitrary<Record<string, unknown>>): fc.Arbitrary<Message> {
  const maybe = fc.option(texts, { nil: undefined });
  return fc.record({
    exchange: texts,
    routingKey: texts,
    body: bodies,
    properties: fc.record({
      contentType: maybe,
      correlationId: maybe,
      replyTo: maybe,
      expiration: maybe,
      messageId: fc.oneof({ weight: 20, arbitrary: maybe }, values),
      persistent: fc.constantFrom(true, false, undefined),
      headers,
    }),
  });
}

const anyHeaders = headersOf(fc.oneof(
  values,
  fc.integer(),
  fc.double(),
  fc.maxSafeInteger(),
  fc.constantFrom(0, -0, 2 ** 31, 2 ** 32, -(2 ** 32), 2 ** 63, 1e308, NaN, Infinity),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  fc.boolean(),
  fc.constantFrom(null, undefined, new Date(1_700_000_000_000), new ArrayBuffer(3)),
  fc.uint8Array({ maxLength: 20 }),
));
const frameMaxima = fc.constantFrom(4_096, 8_192, 16_392, FRAME_MAX);

/** What the writer writes; one for all, since each message must be as if it were the first. */
const written: Uint8Array[] = [];
const output = new WriteBuffer((bytes) => written.push(bytes));
const writer = new ContentWriter(output);

function write(message: Message, frameMax: number, channel: number, mandatory: boolean): Buffer {
  try {
    writer.write(channel, message, mandatory, frameMax);
  } finally {
    output.flush();
  }
  return Buffer.concat(written.splice(0));
}

/** The frames that the client itself would write, or undefined where it cannot. */
function writeByClient(message: Message, frameMax: number, channel: number, mandatory: boolean) {
  const { exchange, routingKey, properties: { persistent, ...properties } } = message;
  const body = bytesOf(message.body);
  const view = new AMQPView(new ArrayBuffer(200_000));
  view.setUint16(0, 60);
  view.setUint32(8, body.byteLength);
  try {
    // Its types know fewer kinds of values than it writes.
    const given = { ...properties, deliveryMode: persistent === true ? 2 : 0 } as Parameters<
      AMQPView["setProperties"]
    >[1];
    const size = 12 + view.setProperties(12, given);
    if (size + 8 > frameMax) return undefined;
    const parts = Array.from({ length: Math.ceil(body.byteLength / (frameMax - 8)) }, (_, index) => {
      const at = index * (frameMax - 8);
      return frame(3, channel, body.subarray(at, at + frameMax - 8));
    });
    return Buffer.concat([
      method(channel, "basic.publish", { exchange, routingKey, flags: mandatory ? 1 : 0 }),
      frame(2, channel, new Uint8Array(view.buffer, 0, size)),
      ...parts,
    ]);
  } catch {
    return undefined;
  }
}

/** Cuts whole frames apart. */
function split(bytes: Buffer): Buffer[] {
  const frames: Buffer[] = [];
  for (let at = 0; at < bytes.byteLength;) {
    const end = at + bytes.readUInt32BE(at + 3) + 8;
    frames.push(bytes.subarray(at, end));
    at = end;
  }
  return frames;
}

/** All that a reader tells of these frames. */
function read(...chunks: Uint8Array[]): { messages: [channel: number, message: Received][]; others: string } {
  const messages: [number, Received][] = [];
  let others = "";
  const reader = new ContentReader({
    onmessage: (channel, message) => messages.push([channel, message]),
    onmethods: (frames) => others += Buffer.from(frames).toString("hex"),
  });
  for (const chunk of chunks) reader.read(chunk);
  return { messages, others };
}

/** A value as it comes back: halves of surrogate pairs are no characters, and what is undefined is not there. */
function cameBack(value: unknown): unknown {
  if (typeof value === "string") return value.replace(/[\ud800-\udfff]/gu, "\ufffd");
  if (Array.isArray(value)) return value.map((item) => cameBack(item) ?? null);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).flatMap(([key, field]) =>
      field === undefined ? [] : [[cameBack(key), cameBack(field)]]
    ),
  );
}

describe("a message", () => {
  it("is written as the client itself would write it, or refused where that could not", () => {
    check(
      4_000,
      fc.property(
        messagesOf(anyHeaders),
        frameMaxima,
        fc.integer({ min: 1, max: 65_535 }),
        fc.boolean(),
        (message, frameMax, channel, mandatory) => {
          const expected = writeByClient(message, frameMax, channel, mandatory);
          const { value, error } = outcomeOf(
            () => write(message, frameMax, channel, mandatory),
            NuropbMessageError,
          );
          assert.equal(written.length, 0);
          assert.equal(value?.toString("hex"), expected?.toString("hex"));
          assert.equal(error?.code, expected === undefined ? "MESSAGE_TOO_LARGE" : undefined);
        },
      ),
    );
  });

  it("is read as it was written", () => {
    const headers = headersOf(fc.oneof(values, fc.integer(), fc.boolean(), fc.constantFrom(null, undefined)));
    check(
      3_000,
      fc.property(messagesOf(headers), frameMaxima, fc.nat(2 ** 53 - 1), (message, frameMax, deliveryTag) => {
        // In most runtimes that is no header's name, but the way to the object's prototype.
        if (JSON.stringify(message.properties.headers).includes("__proto__")) return;
        if (writeByClient(message, frameMax, 7, false) === undefined) return;
        const [publish, ...rest] = split(write(message, frameMax, 7, false));
        // The fields that both methods have in common are the last ones: exchange and routing key.
        const address = publish!.subarray(13, -2);
        const start = method(7, "basic.deliver", { tag: "nuropb", deliveryTag });
        const size = start.readUInt32BE(3) - 2 + address.byteLength;
        start.writeUInt32BE(size, 3);
        const deliver = Buffer.concat([start.subarray(0, -3), address, Buffer.of(0xce)]);
        const { messages, others } = read(Buffer.concat([deliver, ...rest]));
        assert.equal(others, "");
        assert.equal(messages.length, 1);
        const [[channel, received]] = messages as [[number, Received]];
        assert.equal(channel, 7);
        assert.equal(received.deliveryTag, deliveryTag);
        const { exchange, routingKey, body, properties } = message;
        assert.deepEqual([received.exchange, received.routingKey], cameBack([exchange, routingKey]));
        assert.ok(Buffer.from(bytesOf(received.body)).equals(bytesOf(body)));
        const { persistent, headers, ...names } = properties;
        const expected = Object.entries(names).map(([name, text]) => [name, cameBack(text || undefined)]);
        assert.deepEqual(received.properties, {
          ...Object.fromEntries(expected),
          persistent: persistent === true,
          headers: cameBack(headers),
        });
      }),
    );
  });

  const text = fc.string({ unit: "binary", maxLength: 20 }).filter((text) => Buffer.byteLength(text) < 255);
  const octets = fc.nat(255);
  const headers = tables.map(({ bytes }) => bytes);
  const properties = fc.record({
    contentType: text,
    contentEncoding: text,
    headers,
    deliveryMode: octets,
    priority: octets,
    correlationId: text,
    replyTo: text,
    expiration: text,
    messageId: text,
    timestamp: fc.nat(2 ** 40),
    type: text,
    userId: text,
    appId: text,
  }, { requiredKeys: [] });

  /** What the client reads of a content header's payload, or undefined when it is not that alone. */
  function readByClient(payload: Uint8Array): Received["properties"] | undefined {
    try {
      const view = new AMQPView(Uint8Array.from(payload).buffer);
      const [
        { contentType, correlationId, replyTo, expiration, messageId, deliveryMode, headers = {} },
        size,
      ] = view.getProperties(12);
      if (12 + size !== payload.byteLength) return undefined;
      const persistent = deliveryMode === 2;
      return { contentType, correlationId, replyTo, expiration, messageId, persistent, headers };
    } catch {
      return undefined;
    }
  }

  it("has the properties that the client itself would read", () => {
    check(
      4_000,
      fc.property(properties, (some) => {
        const [header] = split(content(1, { properties: some }));
        const { messages } = read(Buffer.concat([method(1, "basic.deliver"), header!]));
        assert.deepEqual(messages[0]?.[1].properties, readByClient(header!.subarray(7, -1)));
      }),
    );
  });

  it("whose properties are damaged has those that the client itself would read, or is refused", () => {
    let taken = 0;
    check(
      6_000,
      fc.property(properties, damages, (some, all) => {
        const payload = Buffer.from(content(1, { properties: some })).subarray(7, -1);
        // The size of the body stays as it is: see the frame reader.
        const changed = Buffer.concat([payload.subarray(0, 12), damaged(payload.subarray(12), all)]);
        const expected = readByClient(changed);
        const next = [method(1, "basic.deliver"), content(1, { properties: some, body: "next" })];
        try {
          const { messages } = read(
            Buffer.concat([method(1, "basic.deliver"), frame(2, 1, changed), ...next]),
          );
          assert.equal(messages.length, 2);
          assert.equal(Buffer.from(messages[1]![1].body).toString(), "next");
          if (expected !== undefined) assert.deepEqual(messages[0]![1].properties, expected);
          taken++;
        } catch (error) {
          if (error instanceof assert.AssertionError) throw error;
          assert.ok(error instanceof Error);
          assert.equal(expected, undefined, `It was refused: ${error.message}`);
        }
      }),
    );
    assert.ok(taken > 100);
  });

  it("is read whatever comes between its frames on other channels, in whatever chunks", () => {
    const streams = fc.array(
      fc.tuple(bodies.map((body) => body.subarray(0, 3_000)), fc.integer({ min: 50, max: 1_500 })),
      { minLength: 1, maxLength: 5 },
    );
    check(
      1_000,
      fc.property(
        streams,
        fc.array(fc.nat(9), { minLength: 1, maxLength: 60 }),
        fc.integer({ min: 1, max: 9 }),
        (all, order, chunkSize) => {
          const queues = all.map(([body, part], index) =>
            split(Buffer.concat([
              method(index + 1, "basic.deliver", { deliveryTag: index }),
              content(index + 1, { properties: { messageId: `${index}` }, body }, part),
            ]))
          );
          const others = [
            method(0, "connection.open-ok"),
            method(1, "basic.ack"),
            frame(8, 0, new Uint8Array(0)),
          ];
          const frames: Buffer[] = [];
          const between: Buffer[] = [];
          for (let turn = 0; queues.some((queue) => queue.length > 0); turn++) {
            const pick = order[turn % order.length]!;
            const left = queues.filter((queue) => queue.length > 0);
            frames.push(left[(pick + turn) % left.length]!.shift()!);
            if (pick < others.length) {
              frames.push(others[pick]!);
              between.push(others[pick]!);
            }
          }
          const chunks: Buffer[] = [];
          while (frames.length > 0) chunks.push(Buffer.concat(frames.splice(0, chunkSize)));
          const told = read(...chunks);
          assert.equal(told.others, Buffer.concat(between).toString("hex"));
          assert.equal(told.messages.length, all.length);
          for (const [channel, { body, deliveryTag, properties: { messageId } }] of told.messages) {
            assert.ok(Buffer.from(body).equals(all[channel - 1]![0]));
            assert.deepEqual([deliveryTag, messageId], [channel - 1, `${channel - 1}`]);
          }
        },
      ),
    );
  });
});

describe("a cache of texts", () => {
  it("gives what the runtime's own decoder gives, whatever it was asked before", () => {
    const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    const bytes = fc.constantFrom(0x61, 0x62, 0xc3, 0xa9, 0xe9, 0xef, 0xbb, 0xbf, 0x00, 0x80, 0xff);
    const some = fc.oneof(
      fc.array(bytes, { maxLength: 6 }).map((codes) => Uint8Array.from(codes)),
      texts.map((text) => Buffer.from(text)),
      texts.map((text) => Buffer.from(text, "latin1")),
      values.map((text) => Buffer.from(text)),
    );
    const cache = new TextCache();
    check(
      8_000,
      fc.property(fc.array(some, { minLength: 1, maxLength: 20 }), (all) => {
        for (const one of all) {
          const around = Buffer.concat([Buffer.of(0xa9), one, Buffer.of(0xa9)]);
          assert.equal(cache.read(around, 1, one.byteLength), decoder.decode(one));
        }
      }),
    );
  });
});

describe("deliveries", () => {
  noticeRejections();

  it("are settled as they were told to be, each once, in whatever order and turns", async () => {
    type Kind = "ack" | "reject" | "requeue";
    const steps = fc.array(
      fc.record({
        kind: fc.constantFrom<(Kind | "deliver" | "turn")[]>(
          "ack",
          "ack",
          "ack",
          "reject",
          "requeue",
          "deliver",
          "turn",
        ),
        pick: fc.oneof(fc.constant(0), fc.nat(20)),
      }),
      { minLength: 5, maxLength: 60 },
    );
    const turn = () => new Promise<void>((resolve) => setTimeout(resolve));
    const receiver = await openReceiver();
    const { session, socket, deliveries } = receiver;
    /** What the broker holds unsettled; how each was settled, as it was told and as it was meant. */
    const unsettled = new Set<number>();
    const told = new Map<number, Kind>();
    const meant = new Map<number, Kind>();
    let last = 0;
    let seen = 0;
    const deliver = () => {
      socket.ondata(session.delivery(QUEUE, { body: "{}" }));
      unsettled.add(++last);
    };
    /** Does what RabbitMQ does, which closes the channel over a tag that it does not know. */
    const takeIn = () => {
      for (const { name, fields } of session.received.slice(seen)) {
        seen++;
        if (name !== "basic.ack" && name !== "basic.reject") continue;
        const tag = Number(fields.deliveryTag);
        assert.ok(unsettled.has(tag), `${name} of the unknown tag ${tag}`);
        const tags = fields.multiple === 1 ? [...unsettled].filter((one) => one <= tag) : [tag];
        for (const one of tags) {
          unsettled.delete(one);
          told.set(one, name === "basic.ack" ? "ack" : fields.requeue === 1 ? "requeue" : "reject");
        }
      }
    };
    await checkAsync(
      300,
      fc.asyncProperty(steps, async (all) => {
        const open = deliveries.splice(0).map((delivery, index, { length }) => ({
          delivery,
          tag: last - length + index + 1,
        }));
        const settle = (kind: Kind, pick: number) => {
          const [one] = open.splice(pick % Math.max(1, open.length), 1);
          if (one === undefined) return;
          meant.set(one.tag, kind);
          one.delivery[kind]();
        };
        for (let count = 0; count < 8; count++) deliver();
        open.push(...deliveries.splice(0).map((delivery, index) => ({ delivery, tag: last - 7 + index })));
        for (const { kind, pick } of all) {
          if (kind === "turn") await turn();
          else if (kind === "deliver") {
            deliver();
            open.push({ delivery: deliveries.pop()!, tag: last });
          } else settle(kind, pick);
        }
        while (open.length > 0) settle("ack", 0);
        await turn();
        takeIn();
        assert.deepEqual([...told].toSorted(([a], [b]) => a - b), [...meant].toSorted(([a], [b]) => a - b));
        assert.equal(unsettled.size, 0);
        told.clear();
        meant.clear();
      }),
    );
    receiver.amqp.end();
  });
});
