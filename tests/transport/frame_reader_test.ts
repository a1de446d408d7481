import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, it } from "@std/testing/bdd";
import { FrameReader } from "../../src/transport/frame_reader.ts";
import { content, frame, method } from "./fake_broker.ts";

const MAX_FRAME = 4_096;
const MAX_BODY = 1_000;

/** A reader with the frames it gave, copied, and the bodies it dropped. */
function recorded(maxFrame = MAX_FRAME, maxBody = MAX_BODY) {
  const frames: Uint8Array[] = [];
  const calls: Uint8Array[] = [];
  const oversized: [channel: number, size: number][] = [];
  const take = (bytes: Uint8Array) => {
    calls.push(Uint8Array.from(bytes));
    frames.push(...split(Uint8Array.from(bytes)));
  };
  const reader = new FrameReader(maxFrame, maxBody, {
    onframes: take,
    onoversize: (channel, size) => void oversized.push([channel, size]),
  });
  return { reader, frames, calls, oversized };
}

/** Cuts whole frames apart, and fails when they are not whole. */
function split(bytes: Uint8Array): Uint8Array[] {
  const frames: Uint8Array[] = [];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at < bytes.byteLength;) {
    const end = at + view.getUint32(at + 3) + 8;
    assert.equal(bytes[end - 1], 0xce);
    frames.push(bytes.slice(at, end));
    at = end;
  }
  return frames;
}

/** As hexadecimal digits, so that a difference can be read. */
function plain(frames: readonly Uint8Array[]): string[] {
  return frames.map((bytes) => Buffer.from(bytes).toString("hex"));
}

const joined = (...parts: Uint8Array[]) => Uint8Array.from(parts.flatMap((part) => [...part]));

/** A short stream of all that there is: methods, a message in three parts, an empty one, heartbeats. */
const stream = joined(
  method(0, "connection.open-ok"),
  frame(8, 0, new Uint8Array(0)),
  method(3, "basic.deliver", { tag: "nuropb", deliveryTag: 1, exchange: "x", routingKey: "y" }),
  content(3, { properties: { correlationId: "c" }, body: "a body with the end mark \u00ce in it" }, 15),
  method(3, "basic.deliver", { tag: "nuropb", deliveryTag: 2 }),
  content(3, {}),
  frame(8, 0, new Uint8Array(0)),
);

describe("a frame reader", () => {
  it("hands on all whole frames of a chunk at once", () => {
    const { reader, calls } = recorded();
    reader.push(stream);
    assert.deepEqual(plain(calls), plain([stream]));
  });

  it("hands on the same frames wherever the stream is cut in two", () => {
    const whole = plain(split(stream));
    for (let cut = 0; cut <= stream.byteLength; cut++) {
      const { reader, frames } = recorded();
      reader.push(stream.slice(0, cut));
      reader.push(stream.slice(cut));
      assert.deepEqual(plain(frames), whole, `cut at ${cut}`);
    }
  });

  it("hands on the same frames byte by byte, each as soon as it is whole", () => {
    const { reader, frames } = recorded();
    const ends = split(stream).reduce<number[]>(
      (all, { byteLength }) => [...all, (all.at(-1) ?? 0) + byteLength],
      [],
    );
    stream.forEach((byte, index) => {
      reader.push(Uint8Array.of(byte));
      assert.equal(frames.length, ends.filter((end) => end <= index + 1).length);
    });
    assert.deepEqual(plain(frames), plain(split(stream)));
  });

  it("hands on the same frames cut at random places", () => {
    // A linear congruential generator, so that each run is the same.
    let state = 7;
    const random = (limit: number) => (state = (state * 1_103_515_245 + 12_345) % 2 ** 31) % limit;
    const long = joined(...Array.from({ length: 20 }, () => stream));
    const whole = plain(split(long));
    for (let round = 0; round < 200; round++) {
      const { reader, frames } = recorded();
      for (let at = 0; at < long.byteLength;) {
        const size = 1 + random(random(2) === 0 ? 12 : 400);
        reader.push(long.slice(at, at + size));
        at += size;
      }
      assert.deepEqual(plain(frames), whole, `round ${round}`);
    }
  });

  it("keeps no hold on the bytes of a chunk, which are the socket's again", () => {
    const { reader, frames } = recorded();
    const buffer = new Uint8Array(64);
    for (let at = 0; at < stream.byteLength; at += buffer.byteLength) {
      const part = stream.subarray(at, at + buffer.byteLength);
      buffer.set(part);
      reader.push(buffer.subarray(0, part.byteLength));
      buffer.fill(0xce);
    }
    assert.deepEqual(plain(frames), plain(split(stream)));
  });

  it("copies what is left of a chunk of Node's own kind, whose slices are no copies", () => {
    const { reader, frames } = recorded();
    const buffer = Buffer.from(stream);
    for (const [from, to] of [[0, 100], [100, stream.byteLength]] as const) {
      const chunk = Buffer.from(buffer.subarray(from, to));
      reader.push(chunk);
      chunk.fill(0xce);
    }
    assert.deepEqual(plain(frames), plain(split(stream)));
  });

  it("reads a chunk that is a part of a larger buffer", () => {
    const { reader, frames } = recorded();
    const around = joined(new Uint8Array(5).fill(0xce), stream, new Uint8Array(5).fill(0xce));
    reader.push(around.subarray(5, 5 + stream.byteLength));
    assert.deepEqual(plain(frames), plain(split(stream)));
  });

  it("takes a frame of exactly the largest size, and refuses a byte more from its first bytes on", () => {
    const { reader, frames } = recorded();
    reader.push(frame(8, 0, new Uint8Array(MAX_FRAME - 8)));
    assert.equal(frames[0]!.byteLength, MAX_FRAME);
    const larger = frame(8, 0, new Uint8Array(MAX_FRAME - 7));
    assert.throws(() => reader.push(larger.subarray(0, 7)), /a frame of 4097 bytes, over 4096/);
  });

  const refused: [string, Uint8Array, RegExp][] = [
    [
      "a size of all ones, which read as a signed number is -1",
      Uint8Array.of(1, 0, 0, 255, 255, 255, 255),
      /a frame of 4294967303 bytes/,
    ],
    [
      "a size of 2 GiB, the smallest negative one",
      Uint8Array.of(1, 0, 0, 128, 0, 0, 0),
      /a frame of 2147483656 bytes/,
    ],
    ["a frame without its end mark", Uint8Array.of(8, 0, 0, 0, 0, 0, 0, 0), /without its end mark/],
    [
      "a broker of another version, which answers AMQP0091",
      new TextEncoder().encode("AMQP\0\0\x09\x01"),
      /a frame of/,
    ],
    ["a web server", new TextEncoder().encode("HTTP/1.1 400 Bad Request\r\n\r\n"), /a frame of/],
  ];
  for (const [what, bytes, reason] of refused) {
    it(`refuses ${what}, however it is cut`, () => {
      assert.throws(() => recorded().reader.push(bytes), reason);
      const { reader } = recorded();
      assert.throws(() => bytes.forEach((byte) => reader.push(Uint8Array.of(byte))), reason);
    });
  }

  it("hands on no bytes of a frame that it refuses", () => {
    const { reader, calls } = recorded();
    const bad = joined(frame(8, 0, new Uint8Array(0)), Uint8Array.of(8, 0, 0, 0, 0, 0, 0, 0));
    assert.throws(() => reader.push(bad));
    assert.deepEqual(calls.flatMap((call) => split(call)).length, 0);
  });
});

describe("a frame reader, of bodies over the largest size,", () => {
  const deliver = (deliveryTag: number) => method(5, "basic.deliver", { tag: "t", deliveryTag });
  const large = content(5, { properties: { correlationId: "large" }, body: "x".repeat(MAX_BODY + 1) }, 300);
  const small = content(5, { body: "small" });

  it("hands on the message without the body, told before, and the next one whole", () => {
    const { reader, frames, oversized } = recorded();
    reader.push(joined(deliver(1), large, deliver(2), small));
    assert.deepEqual(oversized, [[5, MAX_BODY + 1]]);
    const empty = content(5, { properties: { correlationId: "large" } });
    assert.deepEqual(plain(frames), plain([deliver(1), empty, deliver(2), ...split(small)]));
  });

  it("does so for a chunk of Node's own kind, whose slices are no copies", () => {
    const { reader, frames, oversized } = recorded();
    const chunk = Buffer.from(joined(deliver(1), large, deliver(2), small));
    const before = Buffer.from(chunk);
    reader.push(chunk);
    assert.deepEqual(oversized, [[5, MAX_BODY + 1]]);
    const empty = content(5, { properties: { correlationId: "large" } });
    assert.deepEqual(plain(frames), plain([deliver(1), empty, deliver(2), ...split(small)]));
    assert.ok(chunk.equals(before), "The chunk was changed");
  });

  it("does so wherever the stream is cut in two", () => {
    const bytes = joined(deliver(1), large, deliver(2), small);
    const expected = recorded();
    expected.reader.push(bytes);
    for (let cut = 0; cut <= bytes.byteLength; cut++) {
      const { reader, frames, oversized } = recorded();
      reader.push(bytes.slice(0, cut));
      reader.push(bytes.slice(cut));
      assert.deepEqual(plain(frames), plain(expected.frames), `cut at ${cut}`);
      assert.equal(oversized.length, 1);
    }
  });

  it("takes one of exactly the largest size", () => {
    const { reader, frames, oversized } = recorded();
    const exact = content(5, { body: "x".repeat(MAX_BODY) });
    reader.push(joined(deliver(1), exact));
    assert.deepEqual(oversized, []);
    assert.deepEqual(plain(frames), plain([deliver(1), ...split(exact)]));
  });

  it("drops on the one channel, and hands on what comes between on others", () => {
    const { reader, frames, oversized } = recorded();
    const other = [
      method(6, "basic.deliver", { tag: "t", deliveryTag: 1 }),
      ...split(content(6, { body: "other" })),
    ];
    const [header, ...parts] = split(large);
    reader.push(
      joined(
        deliver(1),
        header!,
        other[0]!,
        parts[0]!,
        other[1]!,
        ...parts.slice(1, 3),
        other[2]!,
        ...parts.slice(3),
      ),
    );
    assert.deepEqual(oversized, [[5, MAX_BODY + 1]]);
    assert.deepEqual(plain(frames.filter((bytes) => bytes[2] === 6)), plain(other));
    assert.deepEqual(frames.filter((bytes) => bytes[0] === 3 && bytes[2] === 5), []);
  });

  for (const announced of [2 ** 31, 2 ** 32, 2 ** 40, 2 ** 53 - 1]) {
    it(`allocates nothing for ${announced} bytes announced`, () => {
      const { reader, frames, oversized } = recorded();
      reader.push(joined(deliver(1), content(5, { announced })));
      assert.deepEqual(oversized, [[5, announced]]);
      assert.deepEqual(plain(frames), plain([deliver(1), content(5, {})]));
    });
  }

  it("takes a size with its highest bit set for a large one, not for a negative one", () => {
    const { reader, frames, oversized } = recorded();
    reader.push(joined(deliver(1), content(5, { announced: 2 ** 64 - 2_048 })));
    assert.equal(oversized.length, 1);
    assert.deepEqual(plain(frames.slice(1)), plain([content(5, {})]));
  });

  it("takes the next message on the channel whole, even when the large one never came to its end", () => {
    const { reader, frames } = recorded();
    reader.push(
      joined(deliver(1), content(5, { announced: 2 ** 40, body: "only a part" }), deliver(2), small),
    );
    assert.deepEqual(plain(frames.slice(2)), plain([deliver(2), ...split(small)]));
  });
});
