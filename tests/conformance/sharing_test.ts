import assert from "node:assert/strict";
import { NuropbTimeoutError } from "@nuropb/mesh";
import type { Context } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { uniqueName, urls } from "../support/env.ts";
import { eventually, failure, signal, stage, within } from "./stage.ts";

for (const { name, url } of urls()) {
  describe(`several instances of a service on ${name}`, () => {
    const open = stage(url);

    it("share requests and commands", async () => {
      const target = uniqueName("service");
      const taken = [0, 0, 0];
      for (const instance of taken.keys()) {
        await open.service({ work: () => ++taken[instance]! }, { name: target });
      }
      const mesh = await open.mesh();
      await Promise.all(Array.from({ length: 60 }, () => mesh.request(target, "work")));
      await Promise.all(Array.from({ length: 30 }, () => mesh.command(target, "work")));
      await eventually(() => taken, ([a, b, c]) => a! + b! + c! === 90);
      for (const count of taken) assert.ok(count >= 10, `shared as ${taken}`);
    });

    it("share over one mesh too", async () => {
      const mesh = await open.mesh();
      const target = uniqueName("service");
      for (const number of [1, 2]) await open.service({ work: () => number }, { mesh, name: target });
      const answers = await Promise.all(Array.from({ length: 20 }, () => mesh.request(target, "work")));
      assert.deepEqual(new Set(answers), new Set([1, 2]));
    });

    it("leave the work to those that have time", async () => {
      const target = uniqueName("service");
      const [begun, end] = [signal(), signal()];
      const busy = {
        work: async () => {
          begun.send();
          await end.promise;
          return "busy";
        },
      };
      await open.service(busy, { name: target, concurrency: 1 });
      const mesh = await open.mesh();
      const first = mesh.request(target, "work");
      await within(begun.promise);
      await open.service({ work: () => "free" }, { name: target, concurrency: 1 });
      const answers = await within(
        Promise.all(Array.from({ length: 10 }, () => mesh.request(target, "work"))),
      );
      assert.deepEqual(new Set(answers), new Set(["free"]));
      end.send();
      assert.equal(await first, "busy");
    });

    it("lose nothing when one of them closes amid the work", async () => {
      const target = uniqueName("service");
      const work = { work: ({ number }: { number: number }) => Promise.resolve(number) };
      const first = await open.service(work, { name: target });
      await open.service(work, { name: target });
      const mesh = await open.mesh();
      const numbers = Array.from({ length: 300 }, (_, number) => number);
      const answers = numbers.map(async (number) => {
        if (number % 3 === 0) await Promise.resolve();
        return await mesh.request<number>(target, "work", { number });
      });
      await answers[50];
      await first.close();
      assert.deepEqual(await within(Promise.all(answers), 10_000), numbers);
    });
  });

  describe(`concurrency on ${name}`, () => {
    const open = stage(url);

    for (const concurrency of [1, 3]) {
      it(`lets exactly ${concurrency} run at once`, async () => {
        let running = 0;
        let most = 0;
        let full = signal();
        const service = await open.service({
          async work() {
            most = Math.max(most, ++running);
            if (running === concurrency) full.send();
            // None ends before as many run as may.
            await full.promise;
            if (--running === 0) full = signal();
          },
        }, { concurrency });
        const mesh = await open.mesh();
        const requests = Array.from({ length: 4 * concurrency }, () => mesh.request(service.name, "work"));
        await within(Promise.all(requests));
        assert.equal(most, concurrency);
      });
    }

    it("counts commands and events too", async () => {
      const topic = uniqueName("topic");
      let running = 0;
      let most = 0;
      const done = signal();
      let count = 0;
      const work = async () => {
        most = Math.max(most, ++running);
        await new Promise((resolve) => setTimeout(resolve, 1));
        running--;
        if (++count === 12) done.send();
      };
      const service = await open.service({ work }, { concurrency: 2, events: { [topic]: work } });
      const mesh = await open.mesh();
      for (let turn = 0; turn < 6; turn++) {
        await mesh.command(service.name, "work");
        await mesh.publish(topic, turn);
      }
      await within(done.promise);
      assert.ok(most <= 2, `${most} at once`);
    });

    it("is enough for a service that asks itself", async () => {
      const service = await open.service({
        countdown: async ({ from }: { from: number }, ctx: Context): Promise<number> =>
          from === 0 ? 0 : 1 + await ctx.mesh.request<number>(service.name, "countdown", { from: from - 1 }),
      });
      assert.equal(await within((await open.mesh()).request(service.name, "countdown", { from: 20 })), 20);
    });
  });

  describe(`closing a service on ${name}`, () => {
    const open = stage(url);

    /** A service with one place, whose method waits until it is let go. */
    async function single(target = uniqueName("service")) {
      const handled: unknown[] = [];
      const [begun, end] = [signal(), signal()];
      const service = await open.service({
        async work({ number }: { number: number }) {
          handled.push(number);
          begun.send();
          await end.promise;
          return number;
        },
      }, { name: target, concurrency: 1, drainTimeout: 5_000 });
      return { service, handled, begun: () => within(begun.promise), end: () => end.send() };
    }

    it("waits for what runs, answers it, and takes no more", async () => {
      const { service, handled, begun, end } = await single();
      const mesh = await open.mesh();
      const first = mesh.request(service.name, "work", { number: 1 });
      await begun();
      const second = mesh.request(service.name, "work", { number: 2 });
      let closed = false;
      const closing = service.close().then(() => closed = true);
      await service.mesh.publish(uniqueName("topic"), 1);
      assert.equal(closed, false);
      end();
      assert.equal(await within(first), 1);
      await within(closing);
      assert.deepEqual(handled, [1]);
      await open.service({ work: ({ number }: { number: number }) => number * 10 }, { name: service.name });
      assert.equal(await within(second), 20);
    });

    it("can be asked for twice, and both wait", async () => {
      const { service, begun, end } = await single();
      const mesh = await open.mesh();
      const answer = mesh.request(service.name, "work", { number: 1 });
      await begun();
      const order: string[] = [];
      const closings = [1, 2].map((number) => service.close().then(() => order.push(`close ${number}`)));
      const answered = answer.then(() => order.push("answer"));
      end();
      await within(Promise.all([...closings, answered]));
      await service.close();
      assert.equal(order.length, 3);
      assert.equal(service.mesh.status.state, "closed");
    });

    it("can be left to asyncDispose", async () => {
      const { service } = await single();
      await within(service[Symbol.asyncDispose]());
      assert.equal(service.mesh.status.state, "closed");
    });

    it("gives back after drainTimeout what still runs, to be delivered again", async () => {
      const target = uniqueName("service");
      const [begun, end] = [signal(), signal()];
      const stuck = await open.service({
        work: async () => {
          begun.send();
          await end.promise;
          return "too late";
        },
      }, { name: target, drainTimeout: 50 });
      const mesh = await open.mesh();
      const answer = mesh.request(target, "work");
      await within(begun.promise);
      await within(stuck.close());
      await open.service({ work: (_params: unknown, { redelivered }: Context) => ({ redelivered }) }, {
        name: target,
      });
      assert.deepEqual(await within(answer), { redelivered: true });
      end.send();
    });

    it("is over at once when nothing runs", async () => {
      const { service } = await single();
      await within(service.close(), 2_000);
    });

    it("leaves nothing behind that the next instance would get again", async () => {
      const target = uniqueName("service");
      const first = await open.service({ work: () => "first" }, { name: target });
      const mesh = await open.mesh();
      await Promise.all(Array.from({ length: 50 }, () => mesh.request(target, "work")));
      await first.close();
      const got: unknown[] = [];
      await open.service({ work: (params: unknown) => got.push(params) }, { name: target, concurrency: 1 });
      assert.equal(await mesh.request(target, "work", { last: true }), 1);
      assert.deepEqual(got, [{ last: true }]);
    });

    it("leaves requests in the queue, until their ttl", async () => {
      const target = uniqueName("service");
      await (await open.service({ work: () => "done" }, { name: target })).close();
      const mesh = await open.mesh();
      const [short, long] = [{ ttl: 100 }, { ttl: 5_000 }];
      const waiting = mesh.request(target, "work", {}, long);
      await failure(NuropbTimeoutError, () => mesh.request(target, "work", {}, short));
      const got: unknown[] = [];
      await open.service({ work: () => got.push("work") }, { name: target });
      await within(waiting);
      assert.deepEqual(got, ["work"]);
    });

    it("can be done while it opens other services on the same mesh", async () => {
      const mesh = await open.mesh();
      const services = await Promise.all(
        [1, 2, 3].map((number) => open.service({ work: () => number }, { mesh })),
      );
      await Promise.all(services.slice(1).map((service) => service.close()));
      const first = services[0]!;
      assert.equal(await mesh.request(first.name, "work"), 1);
    });
  });
}
