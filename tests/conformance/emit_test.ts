import assert from "node:assert/strict";
import { NuropbCallAgain, NuropbException, NuropbTimeoutError } from "@nuropb/mesh";
import type { Context, Mesh } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { uniqueName, urls } from "../support/env.ts";
import { failure, signal, stage, take } from "./stage.ts";

for (const { name, url } of urls()) {
  describe(`events that a method emits on ${name}`, () => {
    const open = stage(url);

    async function listen(mesh: Mesh) {
      const topic = uniqueName("topic");
      const subscription = mesh.subscribe(`${topic}.#`);
      await subscription.ready;
      const next = async (count: number) =>
        (await take(subscription, count)).map((
          message,
        ) => [message.topic.slice(topic.length + 1), message.event]);
      return { topic, subscription, next };
    }

    it("are published when it has succeeded, in order, with its trace", async () => {
      const mesh = await open.mesh();
      const { topic, subscription } = await listen(mesh);
      const service = await open.service({
        async work(_params: unknown, ctx: Context) {
          ctx.emit(`${topic}.first`, { id: 1 });
          await ctx.mesh.publish(`${topic}.before`, null);
          ctx.emit(`${topic}.second`, [2]);
          return "done";
        },
      });
      assert.equal(await mesh.request(service.name, "work", {}, { traceId: "trace-1" }), "done");
      const got = await take(subscription, 3);
      assert.deepEqual(got.map((message) => [message.topic, message.event, message.ctx.traceId]), [
        [`${topic}.before`, null, "trace-1"],
        [`${topic}.first`, { id: 1 }, "trace-1"],
        [`${topic}.second`, [2], "trace-1"],
      ]);
    });

    it("are out before the caller has its answer", async () => {
      const mesh = await open.mesh();
      const { topic, next } = await listen(mesh);
      const service = await open.service({
        work: (_params: unknown, ctx: Context) => ctx.emit(`${topic}.emitted`, 1),
      });
      await mesh.request(service.name, "work");
      await mesh.publish(`${topic}.after`, 2);
      assert.deepEqual(await next(2), [["emitted", 1], ["after", 2]]);
    });

    it("are published from commands and from the handlers of events", async () => {
      const mesh = await open.mesh();
      const { topic, next } = await listen(mesh);
      const trigger = uniqueName("trigger");
      const service = await open.service({
        work: (_params: unknown, ctx: Context) => ctx.emit(`${topic}.command`, 1),
      }, { events: { [trigger]: (_payload, ctx) => ctx.emit(`${topic}.event`, 2) } });
      await mesh.command(service.name, "work");
      assert.deepEqual(await next(1), [["command", 1]]);
      await mesh.publish(trigger, null);
      assert.deepEqual(await next(1), [["event", 2]]);
    });

    it("are not published when it throws", async () => {
      const mesh = await open.mesh();
      const { topic, next } = await listen(mesh);
      const service = await open.service({
        async fail(_params: unknown, ctx: Context) {
          ctx.emit(`${topic}.never`, 1);
          await Promise.resolve();
          throw new Error("no");
        },
        unsendable(_params: unknown, ctx: Context) {
          ctx.emit(`${topic}.never`, 2);
          return 5n;
        },
        succeed: (_params: unknown, ctx: Context) => ctx.emit(`${topic}.ever`, 3),
      });
      for (const method of ["fail", "unsendable"]) {
        assert.notEqual((await mesh.requestRaw(service.name, method)).error, null);
      }
      await mesh.request(service.name, "succeed");
      assert.deepEqual(await next(1), [["ever", 3]]);
    });

    it("are published once when it asks to be called again", async () => {
      const mesh = await open.mesh();
      const { topic, next } = await listen(mesh);
      const service = await open.service({
        work(_params: unknown, ctx: Context) {
          ctx.emit(`${topic}.work`, ctx.redelivered);
          if (!ctx.redelivered) throw new NuropbCallAgain("once more");
        },
      });
      await mesh.request(service.name, "work");
      await mesh.publish(`${topic}.end`, null);
      assert.deepEqual(await next(2), [["work", true], ["end", null]]);
    });

    it("are published even when nobody waits for the answer any more", async () => {
      const mesh = await open.mesh();
      const { topic, next } = await listen(mesh);
      const end = signal();
      let runs = 0;
      const service = await open.service({
        async work(_params: unknown, ctx: Context) {
          runs++;
          ctx.emit(`${topic}.done`, runs);
          await new Promise((resolve) => ctx.signal.addEventListener("abort", resolve));
          await end.promise;
        },
      });
      await failure(NuropbTimeoutError, () => mesh.request(service.name, "work", {}, { ttl: 400 }));
      end.send();
      assert.deepEqual(await next(1), [["done", 1]]);
      assert.equal(runs, 1);
    });

    it("are as they were when they were emitted", async () => {
      const mesh = await open.mesh();
      const { topic, next } = await listen(mesh);
      const service = await open.service({
        work(_params: unknown, ctx: Context) {
          const order: { state: unknown } = { state: "new" };
          ctx.emit(`${topic}.order`, order);
          order.state = 5n;
        },
      });
      await mesh.request(service.name, "work", {}, { ttl: 5_000 });
      assert.deepEqual(await next(1), [["order", { state: "new" }]]);
    });

    it("are refused once their method has ended, since nobody would publish them", async () => {
      let kept: Context | undefined;
      const service = await open.service({
        work(_params: unknown, ctx: Context) {
          kept = ctx;
        },
        alive: () => "alive",
      });
      const mesh = await open.mesh();
      await mesh.request(service.name, "work");
      // Answered after it, so that the one before is done with.
      await mesh.request(service.name, "alive");
      assert.throws(() => kept!.emit("topic", 1), { name: "NuropbHandlingError" });
    });

    const refused: [string, (ctx: Context) => void, string][] = [
      ["an empty topic", (ctx) => ctx.emit("", 1), 'The topic must be a non-empty string, but is ""'],
      ["a topic of 256 bytes", (ctx) => ctx.emit("é".repeat(128), 1), "at most 255 bytes"],
      ["a topic that is no string", (ctx) => ctx.emit(5 as unknown as string, 1), "but is 5"],
      ["a BigInt", (ctx) => ctx.emit("topic", 5n), "event must be something that JSON can carry, but is 5n"],
      ["more than maxMessageSize", (ctx) => ctx.emit("topic", "x".repeat(20_000)), "maxMessageSize"],
      ["a nested function", (ctx) => ctx.emit("topic", { a: [() => {}] }), "event.a[0] must be"],
    ];
    for (const [what, emit, text] of refused) {
      it(`are refused within the method when they have ${what}`, async () => {
        let thrown: unknown;
        const service = await open.service({
          work(_params: unknown, ctx: Context) {
            try {
              emit(ctx);
            } catch (error) {
              thrown = error;
            }
            return "went on";
          },
        }, { maxMessageSize: 10_000 });
        assert.equal(await (await open.mesh()).request(service.name, "work"), "went on");
        assert.ok(thrown instanceof NuropbException);
        assert.match(thrown.code, /^(INVALID_ARGUMENT|MESSAGE_TOO_LARGE)$/);
        assert.ok(thrown.message.includes(text), thrown.message);
      });
    }
  });
}
