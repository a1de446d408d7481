import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import fc from "fast-check";
import { describe, it } from "@std/testing/bdd";
import { FrameReader } from "../../src/transport/frame_reader.ts";
import { content, frame, method } from "../transport/fake_broker.ts";
import { damaged, damages } from "./arbitraries.ts";
import { check } from "./property.ts";

const MAX_FRAME = 8_192;
const MAX_BODY = 1_000;

const channels = fc.integer({ min: 0, max: 3 });
const messages = fc.tuple(
  channels,
  fc.oneof({ weight: 3, arbitrary: fc.nat(40) }, fc.nat(3_000), fc.constantFrom(MAX_BODY, MAX_BODY + 1)),
  fc.integer({ min: 100, max: 2_000 }),
  fc.oneof({ weight: 9, arbitrary: fc.nat(100) }, fc.nat(5_000)),
).map(([channel, size, part, header]) =>
  Buffer.concat([
    method(channel, "basic.deliver", { tag: "t", deliveryTag: 1, exchange: "x", routingKey: "y" }),
    content(channel, {
      properties: { correlationId: "c", headers: Buffer.alloc(header, "\xce") },
      body: new Uint8Array(size).fill(0xce),
    }, part),
  ])
);
const streams = fc.array(
  fc.oneof(
    { weight: 3, arbitrary: messages },
    channels.map((channel) => frame(8, channel, new Uint8Array(0))),
    fc.tuple(fc.nat(255), channels, fc.uint8Array({ maxLength: 100 })).map((parts) => frame(...parts)),
    channels.map((channel) => method(channel, "basic.ack", { deliveryTag: 3 })),
  ),
  { minLength: 1, maxLength: 8 },
).map((parts) => Buffer.concat(parts));

/** Sizes of chunks, gone through again and again. */
const cuts = fc.array(fc.oneof(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 4_000 })), {
  minLength: 1,
  maxLength: 20,
});

/** All that a reader tells of a stream that comes in such chunks. */
function read(stream: Uint8Array, sizes: readonly number[]): { told: string[]; error: string | undefined } {
  const told: string[] = [];
  const take = (bytes: Uint8Array) => {
    for (let rest = Buffer.from(bytes); rest.byteLength > 0;) {
      const size = 8 + rest.readUInt32BE(3);
      assert.ok(size <= rest.byteLength, "Handed on half a frame");
      told.push(rest.toString("latin1", 0, size));
      rest = rest.subarray(size);
    }
  };
  const reader = new FrameReader(MAX_FRAME, MAX_BODY, {
    onframes: take,
    onoversize: (channel, size) => told.push(`oversize ${channel} ${size}`),
  });
  try {
    for (let at = 0, turn = 0; at < stream.byteLength; turn++) {
      const size = sizes[turn % sizes.length]!;
      reader.push(Uint8Array.from(stream.subarray(at, at + size)));
      at += size;
    }
    return { told, error: undefined };
  } catch (error) {
    assert.ok(error instanceof Error && error.constructor === Error, String(error));
    return { told, error: error.message };
  }
}

describe("a stream of frames", () => {
  it("is read the same wherever it is cut", () => {
    check(
      3_000,
      fc.property(streams, cuts, (stream, sizes) => {
        const whole = read(stream, [stream.byteLength]);
        assert.equal(whole.error, undefined);
        assert.deepEqual(read(stream, sizes), whole);
      }),
    );
  });

  it("that is damaged is read or refused, the same wherever it is cut", () => {
    check(
      3_000,
      fc.property(streams, damages, cuts, (stream, all, sizes) => {
        const changed = damaged(stream, all);
        if (changed.byteLength === 0) return;
        const whole = read(changed, [changed.byteLength]);
        const cut = read(changed, sizes);
        assert.equal(cut.error, whole.error);
        // What comes in one chunk with bytes that are no frames may go down with them.
        const same = whole.error === undefined ? cut.told : cut.told.slice(0, whole.told.length);
        assert.deepEqual(same, whole.told);
      }),
    );
  });

  it("of random bytes is read or refused, the same wherever it is cut", () => {
    const random = fc.uint8Array({ minLength: 1, maxLength: 300, size: "max" });
    check(
      4_000,
      fc.property(random, cuts, (bytes, sizes) => {
        const [cut, whole] = [read(bytes, sizes), read(bytes, [bytes.byteLength])];
        assert.equal(cut.error, whole.error);
        assert.deepEqual(cut.told.slice(0, whole.told.length), whole.told);
      }),
    );
  });
});
