import assert from "node:assert/strict";
import process from "node:process";
import fc from "fast-check";
import { describe, it } from "@std/testing/bdd";
import { stage, take, within } from "../conformance/stage.ts";
import { uniqueName, urls } from "../support/env.ts";
import { noticeRejections } from "../transport/fake_broker.ts";
import { checkConnectOptions } from "../../src/options.ts";
import { openerOf, parseUrl } from "../../src/transport/open.ts";
import type { Connection } from "../../src/transport/transport.ts";
import { bytesOf } from "../../src/message.ts";
import type { Message } from "../../src/message.ts";
import { encodeCall, encodeEvent } from "../../src/wire/envelope.ts";
import { damaged, damages, jsonObjects, jsonValues } from "./arbitraries.ts";
import { checkAsync } from "./property.ts";

/** Messages that are sent at once, and how many times. */
const BATCH = 100;
const BATCHES = 20;

/** A connection that publishes whatever it is given. */
async function openPublisher(url: string): Promise<Connection> {
  const open = openerOf(parseUrl(url), checkConnectOptions({}));
  const ignore = () => {};
  return await open({
    onreply: ignore,
    onreturn: ignore,
    onreset: ignore,
    onclose: ignore,
    onflow: ignore,
    onrefused: ignore,
    onpipelined: ignore,
  }, AbortSignal.timeout(10_000));
}

/** What AMQP can carry in a header. */
const fields = fc.oneof(
  fc.string({ unit: "binary" }),
  fc.integer(),
  fc.double({ noNaN: true }),
  fc.boolean(),
  fc.constant(null),
  fc.uint8Array(),
  fc.array(fc.string(), { maxLength: 3 }),
  fc.dictionary(fc.string({ minLength: 1 }), fc.string(), { maxKeys: 3, noNullPrototype: true }),
);

/** What goes wrong with a message on its way. */
interface Fault {
  readonly body?: (body: Uint8Array) => Uint8Array;
  readonly headers?: Record<string, unknown>;
  readonly properties?: Partial<Message["properties"]>;
}

const faults: fc.Arbitrary<Fault> = fc.oneof(
  fc.constant({}),
  damages.map((all) => ({ body: (body: Uint8Array) => damaged(body, all) })),
  fc.uint8Array({ maxLength: 100 }).map((bytes) => ({ body: () => bytes })),
  jsonValues.map((value) => ({ body: () => new TextEncoder().encode(JSON.stringify(value)) })),
  fc.dictionary(
    fc.oneof(
      fc.constantFrom("nuropb_protocol", "nuropb_type", "trace_id", "encrypted", "nuropb_refused"),
      fc.string({ minLength: 1 }),
    ),
    fields,
    { maxKeys: 4 },
  ).map((headers) => ({ headers })),
  fc.record({
    contentType: fc.string({ maxLength: 50 }),
    correlationId: fc.string({ maxLength: 50 }),
    messageId: fc.string({ maxLength: 50 }),
    // Where no answer may go. RabbitMQ itself refuses its own name from whoever takes no answers.
    replyTo: fc.constantFrom("", "nuropb-shop-sq", "nuropb-dead-letters", "amq.direct", "-rq"),
  }, { requiredKeys: [] }).map((properties) => ({ properties })),
);

function spoiled(message: Message, { body, headers, properties }: Fault): Message {
  return {
    ...message,
    body: body?.(bytesOf(message.body)) ?? message.body,
    properties: {
      ...message.properties,
      ...properties,
      headers: { ...message.properties.headers, ...headers },
    },
  };
}

for (const { name, url } of urls()) {
  describe(`a service that is sent thousands of arbitrary messages on ${name}`, () => {
    noticeRejections();
    const open = stage(url);

    it("handles what can be handled, leaves the rest in the dead letters, and still answers", async () => {
      let handled = 0;
      const shop = uniqueName("shop");
      const count = () => void handled++;
      const topic = uniqueName("topic");
      const service = await open.service({ order: count, ask: () => "answer" }, {
        name: shop,
        events: { [`${topic}.#`]: count },
      });
      const mesh = await open.mesh();
      const publisher = await openPublisher(url);
      const letters = mesh.deadLetters();
      const dead = (async () => {
        let found = 0;
        for await (const letter of letters) {
          if (letter.message.routingKey === shop || letter.message.routingKey.startsWith(topic)) found++;
          letter.discard();
          if (found + handled === BATCH * BATCHES) break;
        }
        return found;
      })();
      const ids = { correlationId: "c", traceId: null, context: {} };
      const calls = fc.tuple(fc.constantFrom("request" as const, "command" as const), jsonObjects).map(
        ([type, params]) =>
          encodeCall({ ...ids, type, service: shop, method: "order", params }, "nuropb-rpc-exchange"),
      );
      const events = jsonValues.map((event) =>
        encodeEvent(
          { ...ids, type: "event", topic: `${topic}.a`, event, target: null },
          "nuropb-events-exchange",
        )
      );
      const messages = fc.tuple(fc.oneof(calls, events), faults).map(([message, fault]) =>
        spoiled(message, fault)
      );
      const before = process.memoryUsage().rss;
      let sent = 0;
      await checkAsync(
        BATCHES,
        fc.asyncProperty(
          fc.array(messages, { minLength: BATCH, maxLength: BATCH, size: "max" }),
          async (batch) => {
            sent += batch.length;
            await Promise.all(batch.map((message) => publisher.publish(message, true)));
            assert.equal(await mesh.request(service.name, "ask"), "answer");
          },
        ),
      );
      assert.equal(sent, BATCH * BATCHES);
      assert.equal(await within(dead, 20_000) + handled, sent);
      assert.ok(handled > sent / 10, `${handled} of ${sent} messages were handled`);
      const grown = (process.memoryUsage().rss - before) / 2 ** 20;
      assert.ok(grown < 300, `Memory has grown by ${Math.round(grown)} MiB`);
      await publisher.close();
    });

    it("has a subscriber go on with the next event that can be read", async () => {
      const topic = uniqueName("topic");
      const mesh = await open.mesh();
      const events = mesh.subscribe<{ last?: boolean }>(`${topic}.#`);
      await events.ready;
      const publisher = await openPublisher(url);
      const message = encodeEvent({
        type: "event",
        topic: `${topic}.a`,
        event: "fine",
        correlationId: "c",
        traceId: null,
        context: {},
        target: null,
      }, "nuropb-events-exchange");
      await checkAsync(
        10,
        fc.asyncProperty(
          fc.array(faults, { minLength: BATCH, maxLength: BATCH, size: "max" }),
          async (all) => {
            await Promise.all(all.map((fault) => publisher.publish(spoiled(message, fault), false)));
            await mesh.publish(`${topic}.last`, { last: true });
            for (;;) {
              const [next] = await take(events, 1);
              if (next?.topic === `${topic}.last`) break;
            }
          },
        ),
      );
      await events.close();
      await publisher.close();
    });
  });
}
