import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, it } from "@std/testing/bdd";
import { NuropbMessageError } from "../../src/errors.ts";
import type { Message } from "../../src/message.ts";
import { ContentWriter } from "../../src/transport/content_writer.ts";
import { WriteBuffer } from "../../src/transport/write_buffer.ts";
import { content, method, table } from "./fake_broker.ts";
import type { Fields } from "./fake_broker.ts";

const FRAME_MAX = 131_072;
/** Up to this size a body is put together with what stands before it. */
const SMALL_BODY = 16_384;

/** A writer with what it wrote. */
function recorded(limit = FRAME_MAX) {
  const writes: Uint8Array[] = [];
  const output = new WriteBuffer((bytes) => writes.push(bytes));
  const writer = new ContentWriter(output);
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

  it("writes a body that is text as its UTF-8, whatever its size, and whatever stands before it", () => {
    const { write, take } = recorded();
    for (
      const text of [
        "",
        "a",
        "é",
        "🐰".repeat(1_000),
        "a".repeat(10_922),
        "é".repeat(10_923),
        "x".repeat(300_000),
      ]
    ) {
      // In all places of the slab, and beside its end.
      for (
        const headers of [{}, { f: "x".repeat(1_990) }, { f: "x".repeat(30_000) }, { f: "x".repeat(131_000) }]
      ) {
        for (let repeated = 0; repeated < 3; repeated++) {
          write({ ...message({ headers }), body: text });
          assert.ok(
            take().equals(framesOf(message({}, text), { headers: table(headers) })),
            `${text.length}`,
          );
        }
      }
    }
    for (let sent = 0; sent < 200; sent++) {
      write({
        ...message({ headers: { f: "x".repeat(sent * 53 % 9_000) } }),
        body: "y".repeat(sent * 97 % 9_000),
      });
      if (sent % 7 === 0) take();
    }
  });

  it("cuts a text into the frames of a small limit", () => {
    const { write, take } = recorded(4_096);
    for (const size of [1_362, 1_363, 4_088, 4_089, 20_000]) {
      write({ ...message({}), body: "x".repeat(size) }, 4_096);
      assert.ok(take().equals(framesOf(message({}, "x".repeat(size)), nothing, 4_096)), `${size}`);
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
