import assert from "node:assert/strict";
import { NuropbTransportError } from "@nuropb/mesh";
import type { Context } from "@nuropb/mesh";
import { afterEach, beforeEach, describe, it } from "@std/testing/bdd";
import { managementUrl, rabbitmqUrl, uniqueName } from "../support/env.ts";
import { Management, urlWith } from "./management.ts";
import { eventually, failure, stage, take } from "./stage.ts";
import { drain } from "./support_letters.ts";

const url = rabbitmqUrl();
const api = managementUrl();

if (url !== undefined && api !== undefined) {
  const EVENTS = "nuropb-events-exchange";

  describe("a method whose events RabbitMQ does not take", () => {
    // Of its own, since other tests need its exchanges.
    const vhost = uniqueName("emit");
    const management = new Management(api, vhost);
    const open = stage(urlWith(url, { vhost }));
    const user = new URL(url).username || "guest";

    beforeEach(async () => {
      await management.call("PUT", management.path("vhosts"));
      const permissions = { configure: ".*", write: ".*", read: ".*" };
      await management.call("PUT", management.path("permissions", user), permissions);
    });
    afterEach(() => management.deleteVhost());

    async function emitting(between: (runs: number) => Promise<unknown> = () => Promise.resolve()) {
      const topic = uniqueName("topic");
      const runs: boolean[] = [];
      const { name } = await open.service({
        async work(_params: unknown, ctx: Context) {
          runs.push(ctx.redelivered);
          await between(runs.length);
          ctx.emit(topic, { redelivered: ctx.redelivered });
          return "done";
        },
        alive: () => "alive",
      }, { concurrency: 1 });
      return { name, topic, runs, mesh: await open.mesh() };
    }

    const deleteExchange = () => management.call("DELETE", management.path("exchanges", EVENTS));
    const makeExchange = () =>
      management.call("PUT", management.path("exchanges", EVENTS), { type: "topic", durable: true });

    it("because their exchange is missing, is run twice, told to the caller and kept", async () => {
      const { name, runs, mesh } = await emitting();
      await deleteExchange();
      const error = await failure(NuropbTransportError, () => mesh.request(name, "work"));
      assert.match(error.message, /^The events of the method could not be published: .*no exchange '/);
      await mesh.command(name, "work");
      // To read them declares the exchange, which must not come too early.
      await eventually(() => management.get("nuropb-dead-letters", 10, true), ({ length }) => length === 2);
      const letters = await drain(mesh, name);
      assert.deepEqual(letters.map(({ type, reason, count }) => [type, reason, count]), [
        ["request", "rejected", 1],
        ["command", "rejected", 1],
      ]);
      assert.deepEqual(runs, [false, true, false, true]);
      assert.equal(await mesh.request(name, "alive"), "alive");
    });

    it("because their exchange is missing, succeeds when it is there the second time", async () => {
      const { name, runs, mesh, topic } = await emitting((run) =>
        run === 1 ? deleteExchange() : makeExchange()
      );
      const request = mesh.request(name, "work");
      assert.equal(await request, "done");
      assert.deepEqual(runs, [false, true]);
      assert.deepEqual(await drain(mesh, name), []);
      const subscription = mesh.subscribe(topic);
      await subscription.ready;
      assert.equal(await mesh.request(name, "work"), "done");
      assert.deepEqual((await take(subscription, 1)).map(({ event }) => event), [{ redelivered: false }]);
    });

    it("because a queue is full and refuses them, is run twice, told to the caller and kept", async () => {
      const { name, runs, mesh, topic } = await emitting();
      const full = uniqueName("full");
      const settings = { "x-max-length": 1, "x-overflow": "reject-publish" };
      await management.call("PUT", management.path("queues", full), { durable: true, arguments: settings });
      const binding = `${management.path("bindings")}/e/${EVENTS}/q/${full}`;
      await management.call("POST", binding, { routing_key: topic });
      await mesh.publish(topic, "fills it");
      const error = await failure(NuropbTransportError, () => mesh.request(name, "work"));
      assert.match(error.message, /^The events of the method could not be published: .*refused the message/);
      const letters = await drain(mesh, name);
      assert.deepEqual(letters.map(({ type, reason }) => [type, reason]), [["request", "rejected"]]);
      assert.deepEqual(runs, [false, true]);
      await management.purge(full);
      assert.equal(await mesh.request(name, "work"), "done");
    });
  });
}
