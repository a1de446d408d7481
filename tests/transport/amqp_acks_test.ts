import assert from "node:assert/strict";
import { describe, it } from "@std/testing/bdd";
import { AmqpConsumer } from "../../src/transport/amqp_consumer.ts";
import type { Delivery } from "../../src/transport/transport.ts";
import { openReceiver, QUEUE } from "../properties/receiver.ts";
import type { Receiver } from "../properties/receiver.ts";
import { method, noticeRejections, until } from "./fake_broker.ts";

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
