/**
 * What requests and answers say to the broker, and what they spare it.
 *
 * @module
 */
import assert from "node:assert/strict";
import { connect, serve } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { FakeBroker, method, noticeRejections, nuropb, plain, table, until } from "./fake_broker.ts";
import type { Content } from "./fake_broker.ts";

const ADDRESS = "amq.rabbitmq.reply-to.g1h2AA9.abc==";

/** The same request, sent by a library that says this of itself. */
function from(sender: string | undefined, request: Content): Content {
  const headers = table({
    nuropb_protocol: "0.1.1",
    ...(sender === undefined ? {} : { nuropb_version: sender }),
    nuropb_type: "request",
  });
  return { ...request, properties: { ...request.properties, headers } };
}

describe("an answer", () => {
  noticeRejections();

  it("has no headers for a caller of this library, and all of them for everybody else", async () => {
    await using broker = await FakeBroker.start();
    await using _service = await serve({ order: () => 1 }, { url: broker.url, name: "shop" });
    const { session } = broker;
    const request = nuropb("request", { service: "shop", method: "order", params: {} });
    for (const sender of ["mesh/0.1.0", "mesh/9.0.0", "0.1.8", "mesh", undefined]) {
      session.deliver("nuropb-shop-sq", from(sender, request));
    }
    await until(() => session.published.length === 5);
    const sizes = session.published.map(({ properties }) => (properties.headers as Uint8Array).byteLength);
    assert.deepEqual(sizes.map((size) => size > 0), [false, false, true, true, true]);
    for (const { body, properties } of session.published) {
      assert.equal(properties.correlationId, "c");
      assert.equal(properties.contentType, "application/json");
      assert.equal(JSON.parse(String(body)).tag, "response");
    }
  });

  it("without headers is read, if it is an answer", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url);
    const answer = (body: Record<string, unknown>) =>
      broker.once("basic.publish", ({ session, message }) => {
        const correlationId = message.properties.correlationId as string;
        const text = JSON.stringify({ correlation_id: correlationId, ...body });
        session.deliver("amq.rabbitmq.reply-to", { properties: { correlationId }, body: text });
      });
    answer({ tag: "response", result: "bare", error: null });
    assert.equal(await mesh.request("shop", "order", {}, plain), "bare");
    answer({ tag: "request", result: "no", error: null });
    await assert.rejects(mesh.request("shop", "order", {}, plain), { name: "NuropbMessageError" });
  });
});

describe("a request's reply address", () => {
  noticeRejections();

  it("is direct reply-to until an answer tells what the broker makes of it, and anew for each channel", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url);
    let address = ADDRESS;
    const asked: unknown[] = [];
    broker.on("basic.publish", ({ session, message }) => {
      asked.push(message.properties.replyTo);
      const { correlationId } = message.properties;
      const answer = nuropb("response", { correlation_id: correlationId, result: 1, error: null });
      session.deliver("amq.rabbitmq.reply-to", answer, { routingKey: address });
    });
    const ask = () => mesh.request("shop", "order", {}, plain);
    await ask();
    await ask();
    assert.deepEqual(asked.splice(0), ["amq.rabbitmq.reply-to", ADDRESS]);

    const { session } = broker;
    const { channel } = session.consumers.get("amq.rabbitmq.reply-to")!;
    session.send(method(channel, "channel.close", { code: 406, text: "scripted" }));
    await until(() => session.all("basic.consume").length === 2);
    address = "elsewhere";
    await ask();
    await ask();
    assert.deepEqual(asked, ["amq.rabbitmq.reply-to", "amq.rabbitmq.reply-to"]);
  });
});
