import assert from "node:assert/strict";
import { connect, serve } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { bytesOf } from "../../src/message.ts";
import type { ByteSocket } from "../../src/runtime/byte_socket.ts";
import { AmqpSocket } from "../../src/transport/amqp_socket.ts";
import {
  FakeBroker,
  inMemory,
  noticeRejections,
  nuropb,
  plain,
  settings,
  table,
  until,
} from "./fake_broker.ts";
import type { Content } from "./fake_broker.ts";

const message: Content = {
  properties: {
    headers: table({ trace_id: "t" }),
    correlationId: "c1",
    contentType: "text/plain",
    timestamp: 1,
  },
  body: "a body of some length, in parts",
};

/** What there is to do with a broker: handshake, channel, consumer, a delivery, a confirmed message, goodbye. */
async function play(toClient: (socket: ByteSocket, bytes: Uint8Array) => void): Promise<void> {
  const broker = new FakeBroker();
  const { socket, session } = inMemory(broker, toClient);
  const amqp = new AmqpSocket(socket, { ...settings, maxMessageSize: 100 });
  let lost: Error | undefined;
  amqp.onend = (error) => lost = error;
  await amqp.connect();
  const channel = amqp.openChannel();
  const bodies: string[] = [];
  channel.ondelivery = ({ body, properties }) =>
    bodies.push(`${properties.correlationId} ${new TextDecoder().decode(bytesOf(body))}`);
  await channel.basicConsume("q", {}, () => {});
  session.deliver("q", message, {}, 7);
  session.deliver("q", {});
  session.deliver("q", { ...message, body: "x".repeat(150) }, {}, 60);
  await channel.confirmSelect();
  await channel.confirm({
    exchange: "x",
    routingKey: "y",
    properties: { headers: {} },
    body: new Uint8Array(1),
  }, true);
  assert.deepEqual(bodies, [`c1 ${message.body}`, "undefined ", "c1 "]);
  assert.equal(lost, undefined);
  await amqp.shutdown();
  assert.deepEqual(broker.faults, []);
}

/** Hands bytes on in a buffer that is used again, as sockets do. */
function lend(socket: ByteSocket, bytes: Uint8Array): void {
  const buffer = Uint8Array.from(bytes);
  socket.ondata(buffer);
  buffer.fill(0xce);
}

describe("what comes from the broker", () => {
  noticeRejections();

  it("is understood byte by byte", async () => {
    await play((socket, bytes) => bytes.forEach((byte) => lend(socket, Uint8Array.of(byte))));
  });

  it("is understood cut in two at every place", async () => {
    let total = 0;
    await play((socket, bytes) => {
      total += bytes.byteLength;
      lend(socket, bytes);
    });
    for (let cut = 1; cut < total; cut++) {
      let seen = 0;
      await play((socket, bytes) => {
        const at = Math.min(Math.max(cut - seen, 0), bytes.byteLength);
        seen += bytes.byteLength;
        if (at > 0) lend(socket, bytes.slice(0, at));
        if (at < bytes.byteLength) lend(socket, bytes.slice(at));
      });
    }
  });

  it("is understood cut in parts of every size up to a hundred bytes", async () => {
    for (let size = 2; size <= 100; size++) {
      await play((socket, bytes) => {
        for (let at = 0; at < bytes.byteLength; at += size) lend(socket, bytes.slice(at, at + size));
      });
    }
  });

  it("is understood byte by byte over a network, with a service and its caller", async () => {
    await using broker = await FakeBroker.start({}, "127.0.0.1", (socket, bytes) => {
      for (const byte of bytes) socket.write(Uint8Array.of(byte));
    });
    await using mesh = await connect(broker.url);
    assert.equal(await mesh.request("shop", "order", {}, plain), "pong");
    await mesh.command("shop", "order", {}, plain);
    await using _service = await serve({ order: () => "done" }, { mesh, name: "shop" });
    const fields = { service: "shop", method: "order", params: { text: "é".repeat(500) } };
    broker.session.deliver("nuropb-shop-sq", nuropb("command", fields));
    await until(() => broker.session.all("basic.ack").length === 1);
    assert.equal(broker.sessions.length, 1);
  });
});

describe("what goes to the broker", () => {
  noticeRejections();

  it("may be joined with anything: answers that come in one chunk with what follows them", async () => {
    // Everything that the broker writes in one turn of the event loop comes in at once.
    let waiting: Uint8Array[] = [];
    await play((socket, bytes) => {
      if (waiting.length === 0) {
        setTimeout(() => {
          const joined = waiting;
          waiting = [];
          lend(socket, Uint8Array.from(joined.flatMap((part) => [...part])));
        });
      }
      waiting.push(bytes);
    });
  });
});
