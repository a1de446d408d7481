import assert from "node:assert/strict";
import { NuropbMessageError, NuropbTimeoutError } from "@nuropb/mesh";
import type { Logger } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { managementUrl, rabbitmqUrl, uniqueName } from "../support/env.ts";
import { Management, vhostOf } from "./management.ts";
import type { RawMessage } from "./management.ts";
import { eventually, failure, stage, within } from "./stage.ts";

const url = rabbitmqUrl();
const api = managementUrl();

interface Sent {
  readonly body: string | Uint8Array;
  readonly headers?: Record<string, unknown>;
  readonly properties?: RawMessage["properties"];
}

const DIRECT = "amq.rabbitmq.reply-to.none";
const id = "0123456789abcdef0123456789abcdef";

function headers(type: string): Record<string, unknown> {
  return {
    nuropb_protocol: "0.1.1",
    nuropb_version: "0.1.8",
    nuropb_type: type,
    trace_id: "t",
    encrypted: "",
  };
}

function request(service: string): Record<string, unknown> {
  return {
    tag: "request",
    service,
    method: "work",
    params: {},
    correlation_id: id,
    context: {},
    trace_id: null,
  };
}

/** A body with one field replaced, or left out when the replacement is undefined. */
function changed(service: string, field: string, value: unknown): Sent {
  return { body: JSON.stringify({ ...request(service), [field]: value }), headers: headers("request") };
}

/** What a service cannot read, by what is wrong with it. */
const unreadable: [string, (service: string) => Sent][] = [
  ["no headers at all", (service) => ({ body: JSON.stringify(request(service)) })],
  ["no version of the protocol", (service) => {
    const { nuropb_protocol: _, ...rest } = headers("request");
    return { body: JSON.stringify(request(service)), headers: rest };
  }],
  ["another version of the protocol", (service) => ({
    body: JSON.stringify(request(service)),
    headers: { ...headers("request"), nuropb_protocol: "9.9.9" },
  })],
  ["a version that is a number", (service) => ({
    body: JSON.stringify(request(service)),
    headers: { ...headers("request"), nuropb_protocol: 1 },
  })],
  ["an unknown type", (service) => ({ body: JSON.stringify(request(service)), headers: headers("gossip") })],
  [
    "a type that every object has",
    (service) => ({ body: JSON.stringify(request(service)), headers: headers("constructor") }),
  ],
  ["a type that is a table", (service) => ({
    body: JSON.stringify(request(service)),
    headers: { ...headers("request"), nuropb_type: { a: [1, { b: true }] } },
  })],
  ["the type response", (service) => ({
    body: JSON.stringify({
      tag: "response",
      result: 1,
      error: null,
      correlation_id: id,
      context: {},
      service,
    }),
    headers: headers("response"),
  })],
  ["an empty body", () => ({ body: "", headers: headers("request") })],
  ["broken JSON", () => ({ body: '{"tag": "request", ', headers: headers("request") })],
  ["a body that is not UTF-8", () => ({
    body: new Uint8Array([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x3a, 0x31, 0x7d]),
    headers: headers("request"),
  })],
  ["binary noise", () => ({ body: new Uint8Array(1_000).fill(0xce), headers: headers("request") })],
  ["a body that is a list", () => ({ body: "[1]", headers: headers("request") })],
  ["a body that is null", () => ({ body: "null", headers: headers("request") })],
  ...["service", "method", "params", "correlation_id", "context"].map((
    field,
  ): [string, (service: string) => Sent] => [
    `no ${field}`,
    (service) => changed(service, field, undefined),
  ]),
  ["params that are a list", (service) => changed(service, "params", [1])],
  ["params that are null", (service) => changed(service, "params", null)],
  ["a method that is a number", (service) => changed(service, "method", 5)],
  ["a context that is a text", (service) => changed(service, "context", "token")],
  ...[200, 100_000].map((levels): [string, (service: string) => Sent] => [
    `${levels} levels of nesting`,
    (service) => ({
      body: JSON.stringify({ ...request(service), params: { a: "DEEP" } })
        .replace('"DEEP"', "[".repeat(levels) + "]".repeat(levels)),
      headers: headers("request"),
    }),
  ]),
  ["an event without a topic", () => ({
    body: JSON.stringify({
      tag: "event",
      event: 1,
      context: {},
      correlation_id: id,
      trace_id: null,
      target: null,
    }),
    headers: headers("event"),
  })],
  ["a request that nobody could be answered to", (service) => ({
    body: JSON.stringify(request(service)),
    headers: headers("request"),
    properties: {},
  })],
  ["a foreign reply_to", (service) => ({
    body: JSON.stringify(request(service)),
    headers: headers("request"),
    properties: { reply_to: "some-other-queue" },
  })],
  ["another service's queue as its reply_to", (service) => ({
    body: JSON.stringify(request(service)),
    headers: headers("request"),
    properties: { reply_to: "nuropb-other-sq" },
  })],
];

if (url !== undefined && api !== undefined) {
  const management = new Management(api, vhostOf(url));

  describe("a message on RabbitMQ that a service cannot take", () => {
    const open = stage(url);

    for (const [what, make] of unreadable) {
      it(`because it has ${what} goes to the dead letters once, is logged, and the service goes on`, async () => {
        const logged: [string, Record<string, unknown> | undefined][] = [];
        const note = (message: string, fields?: Record<string, unknown>) =>
          void logged.push([message, fields]);
        const logger: Logger = { debug() {}, info() {}, warn: note, error: note };
        let calls = 0;
        const { name } = await open.service({ work: () => ++calls }, { logger });
        await management.purge("nuropb-dead-letters");
        const { body, headers, properties } = make(name);
        const routed = await management.publish("nuropb-rpc-exchange", {
          routing_key: name,
          properties: {
            correlation_id: id,
            content_type: "application/json",
            ...(properties ?? { reply_to: DIRECT }),
            ...(headers === undefined ? {} : { headers }),
          },
        }, body);
        assert.equal(routed, true);
        const letters = await eventually(
          () => management.get("nuropb-dead-letters", 5),
          ({ length }) => length > 0,
        );
        assert.equal(letters.length, 1);
        const [death] = letters[0]?.properties.headers?.["x-death"] as Record<string, unknown>[];
        assert.deepEqual([death?.["queue"], death?.["reason"], death?.["count"]], [
          `nuropb-${name}-sq`,
          "rejected",
          1,
        ]);
        assert.equal(await (await open.mesh()).request(name, "work"), 1);
        assert.equal(logged.length, 1, JSON.stringify(logged));
        assert.equal(logged[0]?.[1]?.["service"], name);
        assert.deepEqual(await management.get("nuropb-dead-letters", 5), []);
      });
    }

    it("because it has a foreign reply_to is not answered there", async () => {
      const { name, mesh } = await open.service({ work: () => "secret" });
      const foreign = uniqueName("foreign");
      await management.call("PUT", management.path("queues", foreign), { durable: true });
      const properties = { reply_to: foreign, correlation_id: id, headers: headers("request") };
      const body = JSON.stringify(request(name));
      await management.publish("nuropb-rpc-exchange", { routing_key: name, properties }, body);
      assert.equal(await mesh.request(name, "work"), "secret");
      assert.deepEqual(await management.get(foreign, 1), []);
      await management.call("DELETE", management.path("queues", foreign));
    });

    it("is handled when it is as Python sends it, and more headers than it knows", async () => {
      const { name } = await open.service({
        work: ({ a, b, c, d }: Record<string, unknown>) => [String(a), String(b), c, d],
      });
      const queue = `nuropb-${uniqueName("python")}-rq`;
      await management.call("PUT", management.path("queues", queue), { durable: true });
      const body =
        `{"tag": "request", "service": "x", "method": "work", "params": {"a": NaN, "b": [-Infinity], ` +
        `"c": "\\u00fc", "d": 12345678901234567890}, "correlation_id": "${id}", "context": {}, "trace_id": "t"}`;
      await management.publish("nuropb-rpc-exchange", {
        routing_key: name,
        properties: {
          reply_to: queue,
          correlation_id: id,
          headers: { ...headers("request"), number: 2 ** 40, list: [1, "a", []], table: { a: true } },
        },
      }, body);
      const [answer] = await eventually(() => management.get(queue, 5), ({ length }) => length > 0);
      assert.ok(answer);
      assert.equal(answer.properties.correlation_id, id);
      const { result, error, correlation_id, trace_id, context, warning } = JSON.parse(answer.payload);
      assert.deepEqual(
        { result, error, correlation_id, trace_id, context, warning },
        {
          result: ["NaN", "-Infinity", "ü", 12345678901234567000],
          error: null,
          correlation_id: id,
          trace_id: "t",
          context: {},
          warning: null,
        },
      );
      await management.call("DELETE", management.path("queues", queue));
    });
  });

  describe("an answer on RabbitMQ", () => {
    const open = stage(url);

    /** A request that the test answers itself. */
    async function asked(ttl = 5_000) {
      const service = await open.service({ work() {} });
      const { name } = service;
      const mesh = await open.mesh();
      await mesh.describe(name);
      await service.close();
      const response = mesh.requestRaw(name, "work", {}, { ttl });
      const outcome = response.then((value) => value, (error: unknown) => error);
      let taken: RawMessage[] = [];
      taken = await eventually(() => management.get(`nuropb-${name}-sq`, 1), ({ length }) => length > 0);
      const { reply_to, correlation_id } = taken[0]!.properties;
      const answer = (body: string | object, type = "response", correlationId = correlation_id!) =>
        management.publish(
          "",
          {
            routing_key: reply_to!,
            properties: { correlation_id: correlationId, headers: headers(type) },
          },
          typeof body === "string"
            ? body
            : JSON.stringify({ correlation_id, context: {}, trace_id: null, ...body }),
        );
      return { mesh, response, outcome, answer };
    }

    it("counts the first time, as Python may send it twice", async () => {
      const { mesh, response, answer } = await asked();
      const error = { error: "ValueError", description: "no" };
      await answer({ tag: "response", result: null, error });
      await answer({ tag: "response", result: "second", error: null });
      assert.deepEqual((await within(response)).error, error);
      const { name } = await open.service({ work: () => "alive" });
      assert.equal(await mesh.request(name, "work"), "alive");
    });

    it("of another request, or of none, is dropped", async () => {
      const { response, answer } = await asked();
      await answer({ tag: "response", result: "other", error: null }, "response", id);
      await answer({ tag: "response", result: "mine", error: null });
      assert.equal((await within(response)).result, "mine");
    });

    const unreadableAnswers: [string, string, string][] = [
      ["is no JSON", "nonsense", "response"],
      ["is empty", "", "response"],
      ["is a list", "[]", "response"],
      ["is a request", "{}", "request"],
      ["has an unknown type", "{}", "gossip"],
    ];
    for (const [what, body, type] of unreadableAnswers) {
      it(`that ${what} fails the request at once`, async () => {
        const { mesh, response, answer } = await asked();
        await answer(body, type);
        const error = await failure(NuropbMessageError, () => within(response));
        assert.equal(error.code, "INVALID_MESSAGE");
        assert.equal(mesh.status.state, "open");
      });
    }

    it("that never comes is a timeout", async () => {
      const { outcome } = await asked(500);
      assert.ok(await within(outcome) instanceof NuropbTimeoutError);
    });
  });
}
