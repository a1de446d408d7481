import assert from "node:assert/strict";
import { connect, NuropbException } from "@nuropb/mesh";
import type { Mesh } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { content, FakeBroker, method, noticeRejections, plain, until } from "./fake_broker.ts";
import type { Published } from "./fake_broker.ts";

/** What becomes of each operation: `ok`, or the error's name and code. */
function outcomes(operations: readonly Promise<unknown>[]): Promise<string[]> {
  return Promise.all(operations.map((operation) =>
    operation.then(() => "ok", (error: unknown) => {
      assert.ok(error instanceof NuropbException, String(error));
      return `${error.name} ${error.code}`;
    })
  ));
}

/** A mesh with a number of commands on their way, which the broker has taken and not confirmed. */
async function commands(broker: FakeBroker, mesh: Mesh, count: number): Promise<Promise<void>[]> {
  // The channel is open then.
  await mesh.publish("warm.up", 0);
  broker.on("basic.publish", () => {});
  const before = broker.session.published.length;
  const pending = Array.from(
    { length: count },
    (_, index) => mesh.command(`shop${index}`, "order", {}, plain),
  );
  for (const command of pending) command.catch(() => {});
  await until(() => broker.session.published.length === before + count);
  return pending;
}

const latest = (broker: FakeBroker, count: number) => broker.session.published.slice(-count);

/** The frames by which a broker sends a message back. */
function returned({ channel, exchange, routingKey, properties, body }: Published): Uint8Array[] {
  const fields = { code: 312, text: "NO_ROUTE", exchange, routingKey };
  return [method(channel, "basic.return", fields), content(channel, { properties, body })];
}

const ack = ({ channel, deliveryTag }: Published, multiple = 0) =>
  method(channel, "basic.ack", { deliveryTag, multiple });
const nack = ({ channel, deliveryTag }: Published, flags = 0) =>
  method(channel, "basic.nack", { deliveryTag, flags });

describe("a broker's confirms", () => {
  noticeRejections();

  it("settle each message, in any order", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url);
    const pending = await commands(broker, mesh, 3);
    const sent = latest(broker, 3);
    const settled: number[] = [];
    pending.forEach((command, index) => command.then(() => settled.push(index)));
    for (const index of [1, 2, 0]) {
      broker.session.send(ack(sent[index]!));
      await pending[index];
    }
    assert.deepEqual(settled, [1, 2, 0]);
  });

  it("settle all messages up to one, and none after it", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url);
    const pending = await commands(broker, mesh, 4);
    const sent = latest(broker, 4);
    broker.session.send(ack(sent[2]!, 1));
    assert.deepEqual(await outcomes(pending.slice(0, 3)), ["ok", "ok", "ok"]);
    broker.session.send(nack(sent[3]!));
    assert.deepEqual(await outcomes(pending.slice(3)), ["NuropbTransportError CHANNEL_CLOSED"]);
  });

  it("refuse one message, or all up to one", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url);
    const pending = await commands(broker, mesh, 4);
    const sent = latest(broker, 4);
    broker.session.send(nack(sent[1]!), ack(sent[0]!), nack(sent[3]!, 1));
    const refused = "NuropbTransportError CHANNEL_CLOSED";
    assert.deepEqual(await outcomes(pending), ["ok", refused, refused, refused]);
    broker.off("basic.publish");
    await mesh.command("shop", "order", {}, plain);
    assert.equal(broker.sessions.length, 1);
  });

  it("settle a message once, even when they come twice", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url);
    const pending = await commands(broker, mesh, 2);
    const [first, second] = latest(broker, 2);
    broker.session.send(ack(first!), nack(first!), ack(first!, 1), ack(second!));
    assert.deepEqual(await outcomes(pending), ["ok", "ok"]);
  });
});

describe("a message that no queue takes", () => {
  noticeRejections();

  it("fails its own command alone, though one confirm covers it and others", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url);
    const pending = await commands(broker, mesh, 5);
    const sent = latest(broker, 5);
    // As RabbitMQ does it: the return comes before the confirm.
    broker.session.send(...returned(sent[1]!), ...returned(sent[3]!), ack(sent[4]!, 1));
    const missing = "NuropbNotDeliveredError NOT_DELIVERED";
    assert.deepEqual(await outcomes(pending), ["ok", missing, "ok", missing, "ok"]);
    await assert.rejects(pending[3]!, /^NuropbNotDeliveredError: Service shop3 not available/);
  });

  it("fails a command with a body of several frames, which comes back whole", async () => {
    await using broker = await FakeBroker.start({ frameMax: 4_096 });
    await using mesh = await connect(broker.url);
    broker.once("basic.publish", ({ session, message }) => session.send(...returned(message), ack(message)));
    const command = mesh.command("shop", "order", { text: "x".repeat(10_000) }, plain);
    assert.deepEqual(await outcomes([command]), ["NuropbNotDeliveredError NOT_DELIVERED"]);
    await mesh.command("shop", "order", {}, plain);
  });

  it("fails its own request at once, and no other", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url);
    broker.on(
      "basic.publish",
      ({ session, message }, next) =>
        message.routingKey === "nobody" ? session.send(...returned(message)) : next(),
    );
    const requests = ["shop", "nobody", "shop"].map((service) => mesh.request(service, "order", {}, plain));
    assert.deepEqual(await outcomes(requests), ["ok", "NuropbNotDeliveredError NOT_DELIVERED", "ok"]);
    assert.deepEqual(broker.session.published.map(({ mandatory }) => mandatory), [true, true, true]);
  });

  it("is nothing to an event, which is sent without that demand", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url);
    await mesh.publish("orders.created", 1);
    assert.equal(broker.session.published[0]?.mandatory, false);
  });

  it("is passed over when nobody knows it", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url);
    const pending = await commands(broker, mesh, 1);
    const [sent] = latest(broker, 1);
    const stranger = { ...sent!, properties: { ...sent!.properties, messageId: "of somebody else" } };
    broker.session.send(...returned(stranger), ...returned({ ...sent!, properties: {} }), ack(sent!));
    assert.deepEqual(await outcomes(pending), ["ok"]);
  });
});
