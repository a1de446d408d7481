import assert from "node:assert/strict";
import { inspect } from "node:util";
import { connect, serve } from "@nuropb/mesh";
import type { Context } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { uniqueName, urls } from "../support/env.ts";
import { reasonOf, signal, stage, take, within } from "./stage.ts";

/** A signal that never aborts, and how many listeners it has. */
function watched() {
  const { signal } = new AbortController();
  const listeners = new Map<unknown, number>();
  const change = (listener: unknown, by: number) =>
    listeners.set(listener, (listeners.get(listener) ?? 0) + by);
  const { addEventListener, removeEventListener } = signal;
  const given = (parameters: Parameters<typeof addEventListener>) => {
    change(parameters[1], 1);
    addEventListener.apply(signal, parameters);
  };
  const taken = (parameters: Parameters<typeof removeEventListener>) => {
    if ((listeners.get(parameters[1]) ?? 0) > 0) change(parameters[1], -1);
    removeEventListener.apply(signal, parameters);
  };
  Object.defineProperties(signal, {
    addEventListener: { value: (...parameters: Parameters<typeof addEventListener>) => given(parameters) },
    removeEventListener: {
      value: (...parameters: Parameters<typeof removeEventListener>) => taken(parameters),
    },
  });
  return { signal, count: () => [...listeners.values()].reduce((sum, each) => sum + each, 0) };
}

for (const { name, url } of urls()) {
  describe(`nothing is left on ${name}`, () => {
    const open = stage(url);

    it("on the signal of calls that are over", async () => {
      const { signal, count } = watched();
      const service = await open.service({
        work: () => "done",
        fail() {
          throw new Error("no");
        },
      });
      const mesh = await open.mesh();
      for (let turn = 0; turn < 3; turn++) {
        await mesh.request(service.name, "work", {}, { signal });
        await mesh.request(service.name, "fail", {}, { signal }).catch(() => {});
        await mesh.request(service.name, "work", { a: 5n }, { signal }).catch(() => {});
        await mesh.request(uniqueName("nobody"), "work", {}, { signal }).catch(() => {});
        await mesh.command(service.name, "work", {}, { signal });
        await mesh.publish(uniqueName("topic"), 1, { signal });
        await mesh.describe(service.name, { refresh: true, signal });
        await mesh.ready({ signal });
      }
      assert.equal(count(), 0);
    });

    it("on the signal of meshes, services and subscriptions that were opened", async () => {
      const { signal, count } = watched();
      const mesh = await connect(url, { signal });
      const service = await serve({ work() {} }, { url, name: uniqueName("service"), signal });
      assert.equal(count(), 0);
      const subscription = mesh.subscribe(uniqueName("topic"), { signal });
      await subscription.ready;
      await subscription.close();
      await Promise.all([mesh.close(), service.close()]);
      assert.equal(count(), 0);
    });

    it("on the signal of a subscription by events that are done with", async () => {
      const { signal, count } = watched();
      const service = await open.service({ work: () => "done" });
      const mesh = await open.mesh();
      const topic = uniqueName("topic");
      const subscription = mesh.subscribe(topic, { signal });
      await subscription.ready;
      for (let turn = 0; turn < 30; turn++) {
        await mesh.publish(topic, turn);
        const [message] = await take(subscription, 1);
        assert.equal(await message?.ctx.mesh.request(service.name, "work"), "done");
      }
      assert.ok(count() <= 3, `${count()} listeners`);
    });

    it("of a service whose signal aborts while it starts", async () => {
      const mesh = await open.mesh();
      const target = uniqueName("service");
      const controller = new AbortController();
      const starting = reasonOf(() =>
        serve({ who: () => "ghost" }, { mesh, name: target, signal: controller.signal })
      );
      controller.abort("enough");
      assert.equal(await within(starting), "enough");
      await open.service({ who: () => "real" }, { name: target });
      const answers = await Promise.all(Array.from({ length: 10 }, () => mesh.request(target, "who")));
      assert.deepEqual(new Set(answers), new Set(["real"]));
    });

    it("of a subscription whose signal aborts, or which is closed, while it starts", async () => {
      const mesh = await open.mesh();
      const controller = new AbortController();
      const [aborted, closed] = [
        mesh.subscribe(uniqueName("topic"), { signal: controller.signal }),
        mesh.subscribe(uniqueName("topic")),
      ];
      controller.abort("enough");
      await within(closed.close());
      for (const subscription of [aborted, closed]) {
        await within(subscription.ready.catch(() => {}));
        assert.equal((await within(subscription.next())).done, true);
      }
    });

    it("waiting of a subscription whose mesh is closed while it starts", async () => {
      const mesh = await open.mesh();
      const subscription = mesh.subscribe(uniqueName("topic"));
      const next = subscription.next().then(() => "settled", () => "settled");
      await mesh.close();
      await within(subscription.ready.catch(() => {}), 2_000);
      assert.equal(await within(next, 2_000), "settled");
    });

    it("sent by looking at a typed proxy", async () => {
      const calls: string[] = [];
      const service = await open.service({
        toJSON: () => calls.push("toJSON"),
        toString: () => calls.push("toString"),
        real: () => calls,
      }, { concurrency: 1 });
      const mesh = await open.mesh();
      const proxy = mesh.service<{ real(): string[] }>(service.name);
      inspect(proxy);
      inspect(proxy, { showProxy: true, depth: 5 });
      // A function here is called by JSON.stringify, and its promise is nobody's.
      assert.equal(Reflect.get(proxy, "toJSON"), undefined);
      assert.equal(JSON.stringify({ proxy }), '{"proxy":{}}');
      assert.equal(Object.keys(proxy).length, 0);
      assert.deepEqual(await proxy.real(), []);
    });

    it("running behind a mesh that is closed within one of its own methods", async () => {
      const [begun, closed] = [signal(), signal()];
      const service = await open.service({
        work: async (_params: unknown, ctx: Context) => {
          begun.send();
          await service.mesh.close();
          closed.send();
          await ctx.mesh.request("service", "method").catch(() => {});
        },
      });
      const mesh = await open.mesh();
      await mesh.command(service.name, "work");
      await within(begun.promise);
      await within(closed.promise);
      await within(service.close());
      assert.equal(service.mesh.status.state, "closed");
    });

    it("running behind a service that closes itself", async () => {
      const closed = signal();
      const service = await open.service({
        quit: () => {
          service.close().then(() => closed.send());
          return "quitting";
        },
      });
      const mesh = await open.mesh();
      assert.equal(await within(mesh.request(service.name, "quit")), "quitting");
      await within(closed.promise);
    });
  });
}
