import assert from "node:assert/strict";
import { NuropbCallAgain } from "@nuropb/mesh";
import type { Context } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { managementUrl, rabbitmqUrl, uniqueName } from "../support/env.ts";
import { Management, vhostOf } from "./management.ts";
import { eventually, signal, stage, within } from "./stage.ts";

const url = rabbitmqUrl();
const api = managementUrl();

function pick(record: Record<string, unknown>, keys: string[]): Record<string, unknown> {
  return Object.fromEntries(keys.map((key) => [key, record[key]]));
}

if (url !== undefined && api !== undefined) {
  const management = new Management(api, vhostOf(url));
  const shared = { durable: true, auto_delete: false, exclusive: false };

  describe("what a service declares on RabbitMQ", () => {
    const open = stage(url);

    it("are the three exchanges, and the durable queue of the dead letters", async () => {
      await open.service({ work() {} });
      for (
        const [exchange, type] of [
          ["nuropb-rpc-exchange", "direct"],
          ["nuropb-events-exchange", "topic"],
          ["nuropb-dl-exchange", "fanout"],
        ] as const
      ) {
        const found = await management.call<Record<string, unknown>>(
          "GET",
          management.path("exchanges", exchange),
        );
        const { type: foundType, durable, auto_delete, internal, arguments: given } = found ?? {};
        assert.deepEqual([foundType, durable, auto_delete, internal, given], [type, true, false, false, {}]);
      }
      assert.deepEqual(await management.queue("nuropb-dead-letters"), { ...shared, arguments: {} });
      assert.deepEqual(await management.bindings("nuropb-dead-letters"), [
        { source: "nuropb-dl-exchange", routing_key: "", arguments: {} },
      ]);
    });

    it("is the queue that Python's instances declare too, bound to its name and topics", async () => {
      const { name } = await open.service({ work() {} }, {
        events: { "orders.*": () => {}, "bills.#": () => {} },
      });
      const queue = `nuropb-${name}-sq`;
      assert.deepEqual(await management.queue(queue), {
        ...shared,
        arguments: { "x-dead-letter-exchange": "nuropb-dl-exchange" },
      });
      assert.deepEqual(await management.bindings(queue), [
        { source: "nuropb-events-exchange", routing_key: "bills.#", arguments: {} },
        { source: "nuropb-events-exchange", routing_key: "orders.*", arguments: {} },
        { source: "nuropb-rpc-exchange", routing_key: name, arguments: {} },
      ]);
    });

    it("is a quorum queue when that is asked for", async () => {
      const { name, mesh } = await open.service({ work: () => "done" }, { queueType: "quorum" });
      assert.deepEqual((await management.queue(`nuropb-${name}-sq`))?.arguments, {
        "x-dead-letter-exchange": "nuropb-dl-exchange",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
        "x-queue-type": "quorum",
      });
      assert.equal(await mesh.request(name, "work"), "done");
    });

    it("is none of Python's queues for dead letters, and no queue for answers", async () => {
      const names = async () =>
        (await management.call<{ name: string }[]>("GET", management.path("queues")))?.map(({ name }) =>
          name
        ) ?? [];
      const before = new Set(["nuropb-dead-letters", ...await names()]);
      const { name, mesh } = await open.service({ work: () => "done" });
      await mesh.request(name, "work");
      await (await open.mesh()).request(name, "work");
      const own = await names();
      assert.deepEqual(own.filter((queue) => !before.has(queue)), [`nuropb-${name}-sq`]);
    });

    it("is for a subscriber a queue of its own, which goes with it", async () => {
      const mesh = await open.mesh();
      const topic = uniqueName("topic");
      const subscription = mesh.subscribe(topic);
      await subscription.ready;
      const own = async () => {
        const path = `${management.path("exchanges", "nuropb-events-exchange")}/bindings/source`;
        const bindings = await management.call<{ routing_key: string; destination: string }[]>("GET", path) ??
          [];
        return bindings.filter(({ routing_key }) => routing_key === topic).map(({ destination }) =>
          destination
        );
      };
      const [queue] = await own();
      assert.deepEqual(await management.queue(queue!), {
        durable: false,
        auto_delete: true,
        exclusive: true,
        arguments: {},
      });
      await subscription.close();
      await eventually(own, (queues) => queues.length === 0);
    });
  });

  describe("what is left on RabbitMQ", () => {
    const open = stage(url);

    it("is nothing of a service that was closed amid its work", async () => {
      const topic = uniqueName("topic");
      const [begun, end] = [signal(), signal()];
      let count = 0;
      const work = async () => {
        if (++count === 30) begun.send();
        await end.promise;
      };
      const service = await open.service({ work }, { events: { [topic]: work }, drainTimeout: 10_000 });
      const mesh = await open.mesh();
      const answers = Array.from({ length: 10 }, () => mesh.request(service.name, "work"));
      for (let turn = 0; turn < 10; turn++) {
        await mesh.command(service.name, "work");
        await mesh.publish(topic, turn);
      }
      await within(begun.promise);
      const closing = service.close();
      end.send();
      await within(closing);
      await within(Promise.all(answers));
      assert.deepEqual(await management.get(`nuropb-${service.name}-sq`, 50, true), []);
    });

    it("is what came after it was closed, with everything that a message needs", async () => {
      const service = await open.service({ work() {} });
      const { name } = service;
      const mesh = await open.mesh();
      await mesh.describe(name);
      await service.close();
      const options = { ttl: 60_000, traceId: "trace-1", context: { user: "Ann" } };
      await mesh.command(name, "work", { a: 1 }, options);
      const [message] = await management.get(`nuropb-${name}-sq`, 1);
      assert.ok(message);
      const { headers, expiration, content_type, correlation_id, delivery_mode, reply_to } =
        message.properties;
      assert.equal(message.exchange, "nuropb-rpc-exchange");
      assert.equal(message.routing_key, name);
      assert.equal(content_type, "application/json");
      assert.equal(expiration, "60000");
      assert.equal(delivery_mode, 2);
      assert.equal(reply_to, undefined);
      assert.match(String(correlation_id), /^[0-9a-f]{32}$/);
      const { nuropb_version: version, ...known } = headers ?? {};
      assert.equal(typeof version, "string");
      assert.deepEqual(pick(known, ["nuropb_protocol", "nuropb_type", "trace_id", "encrypted"]), {
        nuropb_protocol: "0.1.1",
        nuropb_type: "command",
        trace_id: "trace-1",
        encrypted: "",
      });
      assert.deepEqual(JSON.parse(message.payload), {
        tag: "command",
        service: name,
        method: "work",
        params: { a: 1 },
        correlation_id,
        context: { user: "Ann" },
        trace_id: "trace-1",
      });
    });

    const failures: [string, (name: string, topic: string) => Promise<void>, string][] = [
      [
        "a command that failed",
        async (name) => (await open.mesh()).command(name, "fail"),
        "nuropb-rpc-exchange",
      ],
      [
        "a command of an unknown method",
        async (name) => (await open.mesh()).command(name, "missing"),
        "nuropb-rpc-exchange",
      ],
      [
        "an event whose handler failed",
        async (_name, topic) => (await open.mesh()).publish(topic, 1),
        "nuropb-events-exchange",
      ],
    ];
    for (const [what, send, exchange] of failures) {
      it(`is ${what}, once among the dead letters`, async () => {
        const topic = uniqueName("topic");
        const fail = () => {
          throw new Error("no");
        };
        const { name } = await open.service({ fail }, { events: { [topic]: fail } });
        await management.purge("nuropb-dead-letters");
        await send(name, topic);
        const letter = await theDeadLetter();
        assert.equal(letter.exchange, "nuropb-dl-exchange");
        const [death] = letter.properties.headers?.["x-death"] as Record<string, unknown>[];
        const { queue, reason, count, exchange: source } = death ?? {};
        assert.deepEqual([queue, reason, count, source], [`nuropb-${name}-sq`, "rejected", 1, exchange]);
      });
    }

    it("is no dead letter of a request that failed: its caller knows", async () => {
      const { name } = await open.service({
        fail() {
          throw new Error("no");
        },
      });
      await management.purge("nuropb-dead-letters");
      const mesh = await open.mesh();
      for (const method of ["fail", "missing"]) {
        assert.notEqual((await mesh.requestRaw(name, method)).error, null);
      }
      assert.deepEqual(await management.get("nuropb-dead-letters", 5), []);
    });

    it("is a command that asked twice to be called again, among the dead letters", async () => {
      const redelivered: boolean[] = [];
      const { name } = await open.service({
        work(_params: unknown, ctx: Context) {
          redelivered.push(ctx.redelivered);
          throw new NuropbCallAgain("later");
        },
      });
      await management.purge("nuropb-dead-letters");
      await (await open.mesh()).command(name, "work");
      await theDeadLetter();
      assert.deepEqual(redelivered, [false, true]);
    });

    async function theDeadLetter() {
      const letters = await eventually(
        () => management.get("nuropb-dead-letters", 5),
        ({ length }) => length > 0,
      );
      assert.equal(letters.length, 1);
      return letters[0]!;
    }
  });
}
