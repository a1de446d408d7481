import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import process from "node:process";
import fc from "fast-check";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { frame, method, noticeRejections } from "../transport/fake_broker.ts";
import { damaged, damages } from "./arbitraries.ts";
import { tables } from "./field_tables.ts";
import { checkAsync } from "./property.ts";
import { openReceiver, QUEUE } from "./receiver.ts";
import type { Receiver } from "./receiver.ts";

/** The payload of a content header with a table alone, and how many bytes of a body it announces. */
function headerPayload(table: Uint8Array, bodySize: bigint): Buffer {
  const head = Buffer.alloc(18);
  head.writeUInt16BE(60, 0);
  head.writeBigUInt64BE(bodySize, 4);
  head.writeUInt16BE(0x2000, 12);
  head.writeUInt32BE(table.byteLength, 14);
  return Buffer.concat([head, table]);
}

/** The client's codec warns of each number over 2^53. */
function silenceWarnings(): void {
  const { warn } = console;
  beforeAll(() => void (console.warn = () => {}));
  afterAll(() => void (console.warn = warn));
}

describe("the headers of a delivery", () => {
  noticeRejections();
  silenceWarnings();

  it("are read as they were written, of every type and nested", async () => {
    const receiver = await openReceiver();
    await checkAsync(
      4_000,
      // deno-lint-ignore require-await
      fc.asyncProperty(tables, async ({ bytes, value }) => {
        receiver.socket.ondata(
          receiver.session.delivery(QUEUE, { properties: { headers: bytes }, body: "{}" }),
        );
        const { properties, body } = receiver.deliveries.pop()!;
        assert.deepEqual(properties.headers, value);
        assert.equal(Buffer.from(body).toString(), "{}");
        assert.equal(receiver.deliveries.length, 0);
      }),
    );
    receiver.amqp.end();
  });

  it("that name what every object has are read, of every type and nested, and the connection goes on", async () => {
    const sized = (letter: string, bytes: Uint8Array) => {
      const size = Buffer.alloc(4);
      size.writeUInt32BE(bytes.byteLength);
      return Buffer.concat([Buffer.from(letter), size, bytes]);
    };
    const named = (name: string, field: Uint8Array) =>
      Buffer.concat([Buffer.of(name.length), Buffer.from(name), field]);
    const types = fc.constantFrom(
      ...["S", "x", "A", "F"].map((letter) => sized(letter, new Uint8Array(0))),
      sized("S", Buffer.from("text")),
      sized("x", Buffer.of(1, 2, 3)),
      sized("A", Buffer.from("VV")),
      sized("F", named("polluted", Buffer.from("V"))),
      Buffer.from("V"),
      Buffer.from("t\x01"),
      Buffer.from("T\0\0\0\0\0\0\0\0", "latin1"),
    );
    const names = fc.constantFrom("__proto__", "__proto__", "constructor", "toString", "hasOwnProperty");
    await checkAsync(
      1_000,
      fc.asyncProperty(tables, names, types, fc.nat(3), async ({ bytes }, name, field, depth) => {
        const receiver = await openReceiver();
        let headers = Buffer.concat([named(name, field), bytes]);
        for (let level = 0; level < depth; level++) headers = named("a", sized("F", headers));
        receiver.socket.ondata(receiver.session.delivery(QUEUE, { properties: { headers }, body: "{}" }));
        assert.equal(receiver.amqp.closed, false, "The connection has ended");
        let table = receiver.deliveries.pop()!.properties.headers;
        for (let level = 0; level < depth; level++) table = table.a as typeof table;
        assert.equal(Object.getPrototypeOf(table), Object.prototype);
        receiver.amqp.end();
      }),
    );
  });

  it("that are damaged are read, or end the connection with an error of its own", async () => {
    await checkAsync(
      700,
      fc.asyncProperty(tables, damages, async ({ bytes }, all) => {
        const receiver = await openReceiver();
        const payload = damaged(headerPayload(bytes, 2n), all);
        receive(receiver, payload, Buffer.from("{}"));
        receiver.assertSound();
      }),
    );
  });

  it("that give wrong lengths are read, or end the connection with an error of its own", async () => {
    const lengths = fc.oneof(fc.nat(300), fc.constantFrom(2 ** 31, 2 ** 31 - 1, 2 ** 32 - 1, 2 ** 32 - 5));
    await checkAsync(
      700,
      fc.asyncProperty(tables, lengths, fc.nat(300), async ({ bytes }, length, place) => {
        const receiver = await openReceiver();
        const payload = headerPayload(bytes, 2n);
        payload.writeUInt32BE(length, Math.min(14 + place, payload.byteLength - 4));
        receive(receiver, payload, Buffer.from("{}"));
        receiver.assertSound();
      }),
    );
  });

  it("that announce a body beyond all bounds cost no memory, and the next delivery comes", async () => {
    const sizes = fc.oneof(
      fc.bigInt({ min: 1_000_001n, max: 2n ** 64n - 1n }),
      fc.constantFrom(2n ** 31n, 2n ** 32n, 2n ** 40n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n),
    );
    const receiver = await openReceiver();
    const before = process.memoryUsage().rss;
    await checkAsync(
      1_000,
      // deno-lint-ignore require-await
      fc.asyncProperty(tables, sizes, fc.nat(5_000), async ({ bytes }, size, sent) => {
        receive(receiver, headerPayload(bytes, size), new Uint8Array(sent));
        const [oversized] = receiver.deliveries.splice(0);
        assert.equal(oversized?.oversize, Number(size));
        assert.equal(oversized?.body.length, 0);
        receiver.socket.ondata(receiver.session.delivery(QUEUE, { body: "{}" }));
        assert.equal(Buffer.from(receiver.deliveries.pop()!.body).toString(), "{}");
      }),
    );
    const grown = (process.memoryUsage().rss - before) / 2 ** 20;
    assert.ok(grown < 200, `Memory has grown by ${Math.round(grown)} MiB`);
    receiver.amqp.end();
  });
});

/** A delivery with the payload of its header as given. */
function receive({ socket, session, channel }: Receiver, header: Uint8Array, body: Uint8Array): void {
  const { tag } = session.consumers.get(QUEUE)!;
  socket.ondata(Buffer.concat([
    method(channel, "basic.deliver", { tag, deliveryTag: 1 }),
    frame(2, channel, header),
    frame(3, channel, body),
  ]));
}
