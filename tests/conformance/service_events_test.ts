import assert from "node:assert/strict";
import { event, NuropbCallAgain } from "@nuropb/mesh";
import type { Context } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { uniqueName, urls } from "../support/env.ts";
import { signal, stage, within } from "./stage.ts";

/** Takes what a handler is given, until there is enough of it. */
function collector<Value>(enough: number): { add(value: Value): void; readonly all: Promise<Value[]> } {
  const values: Value[] = [];
  const { promise, send } = signal<Value[]>();
  return {
    add(value) {
      values.push(value);
      if (values.length === enough) send(values);
    },
    get all() {
      return within(promise);
    },
  };
}

for (const { name, url } of urls()) {
  describe(`the events of a service on ${name}`, () => {
    const open = stage(url);

    it("come to the handler with payload and context", async () => {
      const topic = uniqueName("orders");
      const got = collector<[unknown, Context]>(1);
      await open.service({}, { events: { [topic]: (payload, ctx) => got.add([payload, ctx]) } });
      const mesh = await open.mesh();
      await mesh.publish(topic, { id: 1 }, { context: { user: "Ann" }, traceId: "trace-1" });
      const [[payload, ctx]] = await got.all as [[unknown, Context]];
      assert.deepEqual(payload, { id: 1 });
      assert.deepEqual(ctx.raw, { user: "Ann" });
      assert.equal(ctx.traceId, "trace-1");
      assert.equal(ctx.deadline, Infinity);
      assert.equal(ctx.redelivered, false);
    });

    it("come to one instance of the service each, and to every service that listens", async () => {
      const topic = uniqueName("orders");
      const target = uniqueName("service");
      const other = collector<unknown>(40);
      const got = collector<unknown>(40);
      const perInstance = [0, 0];
      for (const instance of [0, 1]) {
        const handler = (payload: unknown) => {
          perInstance[instance]!++;
          got.add(payload);
        };
        await open.service({}, { name: target, events: { [topic]: handler } });
      }
      await open.service({}, { events: { [topic]: (payload) => other.add(payload) } });
      const mesh = await open.mesh();
      const numbers = Array.from({ length: 40 }, (_, index) => index);
      for (const number of numbers) await mesh.publish(topic, number);
      const inOrder = (values: unknown[]) => values.map(Number).toSorted((a, b) => a - b);
      assert.deepEqual(inOrder(await got.all), numbers);
      assert.deepEqual(inOrder(await other.all), numbers);
      assert.ok(perInstance[0]! > 0 && perInstance[1]! > 0, `shared as ${perInstance}`);
    });

    it("come by several patterns, to the handlers of those that take the topic", async () => {
      const root = uniqueName("root");
      const got = collector<string>(5);
      const handler = (pattern: string) => (payload: unknown) => got.add(`${pattern} ${payload}`);
      await open.service({}, {
        events: {
          [`${root}.a.*`]: handler("a.*"),
          [`${root}.#`]: handler("#"),
          [`${root}.b`]: handler("b"),
        },
      });
      const mesh = await open.mesh();
      for (const end of ["a.x", "b", "c"]) await mesh.publish(`${root}.${end}`, end);
      assert.deepEqual((await got.all).toSorted(), ["# a.x", "# b", "# c", "a.* a.x", "b b"]);
    });

    it("come to methods with the decorator, which see their instance and are no methods any more", async () => {
      const root = uniqueName("root");
      const got = collector<[string, unknown]>(2);
      class Audit {
        readonly label = "audit";

        @event(`${root}.orders.*`)
        @event(`${root}.bills`)
        onOrder(payload: unknown, ctx: Context) {
          got.add([this.label, { payload, traceId: ctx.traceId }]);
        }
      }
      const service = await open.service(new Audit());
      const mesh = await open.mesh();
      await mesh.publish(`${root}.orders.new`, 1, { traceId: "one" });
      await mesh.publish(`${root}.bills`, 2, { traceId: "two" });
      assert.deepEqual(await got.all, [
        ["audit", { payload: 1, traceId: "one" }],
        ["audit", { payload: 2, traceId: "two" }],
      ]);
      const { error } = await mesh.requestRaw(service.name, "onOrder");
      assert.deepEqual(error, { error: "NuropbHandlingError", description: "Unknown method onOrder" });
    });

    it("do not stop at a handler that throws, and are not given to it again", async () => {
      const root = uniqueName("root");
      const runs: unknown[] = [];
      const last = signal();
      await open.service({}, {
        concurrency: 1,
        events: {
          [`${root}.bad`]: (payload) => {
            runs.push(payload);
            throw undefined;
          },
          [`${root}.good`]: () => last.send(),
        },
      });
      const mesh = await open.mesh();
      await mesh.publish(`${root}.bad`, 1);
      await mesh.publish(`${root}.bad`, 2);
      await mesh.publish(`${root}.good`, 3);
      await within(last.promise);
      assert.deepEqual(runs, [1, 2]);
    });

    it("come once more to a handler that asks for it", async () => {
      const topic = uniqueName("orders");
      const got = collector<boolean>(2);
      await open.service({}, {
        events: {
          [topic]: (_payload, { redelivered }) => {
            got.add(redelivered);
            if (!redelivered) throw new NuropbCallAgain();
          },
        },
      });
      await (await open.mesh()).publish(topic, 1);
      assert.deepEqual(await got.all, [false, true]);
    });

    it("count as done only when the handler has finished", async () => {
      const topic = uniqueName("orders");
      const [begun, end] = [signal(), signal()];
      const service = await open.service({}, {
        events: {
          [topic]: async () => {
            begun.send();
            await end.promise;
          },
        },
      });
      await (await open.mesh()).publish(topic, 1);
      await within(begun.promise);
      let closed = false;
      const closing = service.close().then(() => closed = true);
      await service.mesh.publish(topic, 2);
      assert.equal(closed, false);
      end.send();
      await within(closing);
    });

    it("wait in the queue while no instance of the service runs", async () => {
      const topic = uniqueName("orders");
      const target = uniqueName("service");
      const first = await open.service({}, { name: target, events: { [topic]() {} } });
      await first.close();
      await (await open.mesh()).publish(topic, "kept");
      const got = collector<unknown>(1);
      await open.service({}, { name: target, events: { [topic]: (payload) => got.add(payload) } });
      assert.deepEqual(await got.all, ["kept"]);
    });

    it("can be published by anyone, whether or not anyone listens", async () => {
      const mesh = await open.mesh();
      assert.equal(await mesh.publish(uniqueName("unheard"), { id: 1 }), undefined);
      assert.equal(await mesh.publish(`${crypto.randomUUID()}.${"ü".repeat(109)}`, 1), undefined);
    });
  });
}
