import assert from "node:assert/strict";
import { connect } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { FakeBroker, method, noticeRejections, plain, soon, until } from "./fake_broker.ts";

const idempotent = { ...plain, idempotent: true };

/** The ids of all the requests that a broker took. */
const idsOf = (broker: FakeBroker) =>
  broker.sessions.map(({ published }) => published.map(({ properties }) => properties.correlationId));

describe("an idempotent request", () => {
  noticeRejections();

  it("is sent once as long as the connection lasts", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url);
    assert.equal(await mesh.request("shop", "order", {}, idempotent), "pong");
    assert.equal(broker.session.published.length, 1);
  });

  it("is sent again over each new connection until it is answered, the same each time", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url);
    broker.on("basic.publish", ({ session }, next) => broker.sessions.length < 4 ? session.drop() : next());
    const answer = mesh.request("shop", "order", { a: 1 }, idempotent);
    assert.equal(await soon(answer), "pong");
    const ids = idsOf(broker);
    assert.deepEqual(ids, Array(4).fill(ids[0]));
    assert.equal(ids[0]!.length, 1);
    const messages = broker.sessions.map(({ published }) => published[0]!);
    assert.equal(new Set(messages.map(({ body }) => String(body))).size, 1);
    const left = messages.map(({ properties }) => Number(properties.expiration));
    assert.deepEqual(left, left.toSorted((a, b) => b - a));
    assert.ok(left.at(-1)! < left[0]!, `${left}`);
  });

  it("fails with its ttl when no connection lasts until then", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url);
    broker.on("basic.publish", ({ session }) => session.drop());
    await assert.rejects(soon(mesh.request("shop", "order", {}, { ...idempotent, ttl: 400 })), {
      code: "TIMEOUT",
    });
  });

  it("fails at once when the broker closes the channel over it, which it would again", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url);
    broker.on("basic.publish", ({ session, channel }) => {
      session.send(method(channel, "channel.close", { code: 403, text: "ACCESS_REFUSED - write" }));
    });
    const answer = mesh.request("shop", "order", {}, { ...idempotent, ttl: 500 });
    await assert.rejects(soon(answer), { code: "ACCESS_REFUSED" });
    assert.equal(broker.session.published.length, 1);
  });

  it("fails when the mesh is closed while it waits to be sent again", async () => {
    await using broker = await FakeBroker.start();
    const mesh = await connect(broker.url);
    broker.on("basic.publish", ({ session }) => session.drop());
    const answer = assert.rejects(soon(mesh.request("shop", "order", {}, idempotent)), { code: "CLOSED" });
    await until(() => mesh.status.state === "waiting");
    await mesh.close();
    await answer;
  });
});
