import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import process from "node:process";
import fc from "fast-check";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { NuropbTransportError } from "../../src/errors.ts";
import { AmqpSocket } from "../../src/transport/amqp_socket.ts";
import {
  FakeBroker,
  frame,
  inMemory,
  method,
  noticeRejections,
  nuropb,
  settings,
} from "../transport/fake_broker.ts";
import type { Session } from "../transport/fake_broker.ts";
import { damaged, damages } from "./arbitraries.ts";
import { tables } from "./field_tables.ts";
import { checkAsync, settledOutcomeOf } from "./property.ts";
import { openReceiver, QUEUE } from "./receiver.ts";

/** One thing after the other that a broker may send. */
interface Sent {
  readonly kind: "event" | "table" | "heartbeat" | "ack" | "return";
  readonly size: number;
  readonly part: number;
  readonly table: Uint8Array;
}

const sent: fc.Arbitrary<Sent> = fc.record({
  kind: fc.constantFrom("event", "event", "table", "heartbeat", "ack", "return"),
  size: fc.oneof(fc.nat(100), fc.nat(3_000)),
  part: fc.integer({ min: 200, max: 2_000 }),
  table: tables.map(({ bytes }) => bytes),
});
const streams = fc.array(sent, { minLength: 1, maxLength: 6 });
const cuts = fc.array(fc.oneof(fc.integer({ min: 1, max: 10 }), fc.integer({ min: 1, max: 2_000 })), {
  minLength: 1,
  maxLength: 10,
});

function bytesOf(session: Session, channel: number, all: readonly Sent[]): Buffer {
  return Buffer.concat(all.map(({ kind, size, part, table }) => {
    switch (kind) {
      case "event":
        return session.delivery(QUEUE, nuropb("event", { topic: "t", event: "y".repeat(size) }), {}, part);
      case "table":
        return session.delivery(QUEUE, { properties: { headers: table, replyTo: "r" }, body: "b" });
      case "heartbeat":
        return frame(8, 0, new Uint8Array(0));
      case "ack":
        return method(channel, "basic.ack", { deliveryTag: size });
      case "return":
        return Buffer.concat([
          method(channel, "basic.return", { code: 312, text: "NO_ROUTE" }),
          frame(2, channel, Buffer.concat([Buffer.of(0, 60), Buffer.alloc(12)])),
        ]);
    }
  }));
}

function feed(ondata: (bytes: Uint8Array) => void, bytes: Uint8Array, sizes: readonly number[]): void {
  for (let at = 0, turn = 0; at < bytes.byteLength; turn++) {
    const size = sizes[turn % sizes.length]!;
    const chunk = Uint8Array.from(bytes.subarray(at, at + size));
    ondata(chunk);
    // The bytes are the socket's again.
    chunk.fill(0xce);
    at += size;
  }
}

describe("a connection", () => {
  noticeRejections();
  const { warn } = console;
  // The client's codec warns of each number over 2^53.
  beforeAll(() => void (console.warn = () => {}));
  afterAll(() => void (console.warn = warn));

  it("is given the same messages wherever the stream is cut", async () => {
    await checkAsync(
      500,
      fc.asyncProperty(streams, cuts, async (all, sizes) => {
        const [whole, cut] = [await openReceiver(), await openReceiver()];
        const bytes = bytesOf(whole.session, whole.channel, all);
        whole.socket.ondata(bytes);
        feed((chunk) => cut.socket.ondata(chunk), bytes, sizes);
        const shown = [whole, cut].map(({ deliveries }) =>
          deliveries.map(({ properties, body, routingKey }) => ({
            properties,
            routingKey,
            body: Buffer.from(body).toString("latin1"),
          }))
        );
        assert.equal(shown[0]!.length, all.filter(({ kind }) => kind === "event" || kind === "table").length);
        assert.deepEqual(shown[1], shown[0]);
        assert.equal(cut.amqp.closed, false);
        whole.assertSound();
        cut.assertSound();
      }),
    );
  });

  it("goes on, or ends with an error of its own, when what it is sent is damaged", async () => {
    await checkAsync(
      1_500,
      fc.asyncProperty(streams, damages, cuts, async (all, faults, sizes) => {
        const receiver = await openReceiver({ maxMessageSize: 2_000 });
        const bytes = damaged(bytesOf(receiver.session, receiver.channel, all), faults);
        feed((chunk) => receiver.socket.ondata(chunk), bytes, sizes);
        for (const delivery of receiver.deliveries) delivery.ack();
        receiver.assertSound();
      }),
    );
  });

  it("goes on, or ends with an error of its own, when it is sent any methods at all", async () => {
    const known = fc.tuple(
      fc.constantFrom(10, 20, 30, 40, 50, 60, 85, 90),
      fc.constantFrom(10, 11, 20, 21, 30, 31, 40, 41, 50, 51, 60, 61, 70, 71, 72, 80, 90, 111, 120),
      fc.uint8Array({ maxLength: 60 }),
    ).map(([classId, methodId, rest]) => Buffer.concat([Buffer.of(0, classId, 0, methodId), rest]));
    const types = fc.constantFrom(1, 1, 1, 2, 3, 8, 4);
    const frames = fc.array(
      fc.tuple(types, fc.integer({ min: 0, max: 3 }), fc.oneof(known, fc.uint8Array({ maxLength: 60 })))
        .map((parts) => frame(...parts)),
      { minLength: 1, maxLength: 5 },
    );
    await checkAsync(
      1_500,
      fc.asyncProperty(frames, cuts, async (all, sizes) => {
        const receiver = await openReceiver();
        feed((chunk) => receiver.socket.ondata(chunk), Buffer.concat(all), sizes);
        await Promise.resolve();
        receiver.assertSound();
      }),
    );
  });

  it("is opened, or fails with an error of its own in time, when the broker's part in it is damaged", async () => {
    const before = process.memoryUsage().rss;
    const open = async (faults: Parameters<typeof damaged>[1], pipelined: boolean) => {
      let turn = 0;
      const { socket } = inMemory(new FakeBroker(), (client, bytes) => {
        client.ondata(turn++ === 0 ? damaged(bytes, faults) : bytes);
      });
      const amqp = new AmqpSocket(socket, { ...settings, methodTimeout: 100 });
      await settledOutcomeOf(() => amqp.connect(pipelined), NuropbTransportError);
      amqp.end();
    };
    await checkAsync(
      30,
      fc.asyncProperty(
        fc.array(fc.tuple(damages, fc.boolean()), { minLength: 20, maxLength: 30 }),
        async (all) => {
          // Most of them wait.
          await Promise.all(all.map(([faults, pipelined]) => open(faults, pipelined)));
        },
      ),
    );
    const grown = (process.memoryUsage().rss - before) / 2 ** 20;
    assert.ok(grown < 300, `Memory has grown by ${Math.round(grown)} MiB`);
  });
});
