import assert from "node:assert/strict";
import { NuropbCallAgain, NuropbCallAgainReject, NuropbTimeoutError } from "@nuropb/mesh";
import type { Context, ServeOptions } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { uniqueName, urls } from "../support/env.ts";
import { failure, stage } from "./stage.ts";
import { bodyOf, drain, nextLetter } from "./support_letters.ts";
import { Log } from "./support_log.ts";

class Busy extends NuropbCallAgain {}

for (const { name, url } of urls()) {
  describe(`being called again on ${name}`, () => {
    const open = stage(url);

    /** A service that asks for it whatever comes, and notes when. */
    async function busy(make: () => unknown = () => new NuropbCallAgain("the database is away")) {
      const runs: unknown[] = [];
      const log = new Log();
      const topic = uniqueName("topic");
      const work = (params: unknown, { redelivered }: Context) => {
        runs.push([params, redelivered]);
        throw make();
      };
      const options: ServeOptions = { concurrency: 1, logger: log, events: { [topic]: work } };
      const { name: service } = await open.service({ work, alive: () => "alive" }, options);
      return { service, topic, runs, log, mesh: await open.mesh() };
    }

    it("happens once to a request, whose caller is told of the second refusal, and nothing is left behind", async () => {
      const { service, runs, mesh, log } = await busy();
      const error = await failure(NuropbCallAgainReject, () => mesh.request(service, "work", { a: 1 }));
      assert.equal(error.code, "CALL_AGAIN_REJECTED");
      assert.equal(error.message, `${service}.work asked twice to be called again`);
      assert.deepEqual(runs, [[{ a: 1 }, false], [{ a: 1 }, true]]);
      assert.deepEqual(await drain(mesh, service), []);
      assert.match(log.text(), /the database is away/);
    });

    it("happens once to a command, which then is in the dead letters, once", async () => {
      const { service, runs, mesh } = await busy();
      await mesh.command(service, "work", { a: 1 }, { traceId: "trace-1" });
      const letters = await drain(mesh, service);
      assert.deepEqual(runs, [[{ a: 1 }, false], [{ a: 1 }, true]]);
      assert.deepEqual(letters.map(({ type, reason, count }) => [type, reason, count]), [[
        "command",
        "rejected",
        1,
      ]]);
      const { method, params, trace_id } = bodyOf(letters[0]!);
      assert.deepEqual([method, params, trace_id], ["work", { a: 1 }, "trace-1"]);
    });

    it("happens once to an event, which then is in the dead letters, once", async () => {
      const { service, topic, runs, mesh } = await busy();
      await mesh.publish(topic, { id: 1 });
      assert.equal(await mesh.request(service, "alive"), "alive");
      const letters = await drain(mesh, service);
      assert.deepEqual(runs, [[{ id: 1 }, false], [{ id: 1 }, true]]);
      assert.deepEqual(letters.map(({ type, reason, count }) => [type, reason, count]), [[
        "event",
        "rejected",
        1,
      ]]);
      assert.equal(letters[0]!.message.routingKey, topic);
      assert.deepEqual(bodyOf(letters[0]!)["event"], { id: 1 });
    });

    it("happens to each of many messages by itself", async () => {
      const { service, topic, runs, mesh } = await busy();
      const numbers = [1, 2, 3, 4, 5];
      const requests = numbers.map((number) =>
        failure(NuropbCallAgainReject, () => mesh.request(service, "work", { number }))
      );
      await Promise.all([
        ...requests,
        ...numbers.map((number) => mesh.command(service, "work", { command: number })),
        ...numbers.map((number) => mesh.publish(topic, { event: number })),
      ]);
      const letters = await drain(mesh, service);
      assert.equal(letters.length, 10);
      assert.equal(new Set(letters.map(({ message }) => message.correlationId)).size, 10);
      assert.equal(runs.length, 30);
    });

    it("may be asked for by a class of its own, and by a promise", async () => {
      for (const make of [() => new Busy(), () => new Busy("later", { cause: new Error("no") })]) {
        const { service, runs, mesh } = await busy(make);
        await failure(NuropbCallAgainReject, () => mesh.request(service, "work"));
        assert.equal(runs.length, 2);
      }
      let asked = 0;
      const { name: later } = await open.service({
        work: () => (asked++, Promise.reject(new NuropbCallAgain())),
      });
      const mesh = await open.mesh();
      await failure(NuropbCallAgainReject, () => mesh.request(later, "work"));
      assert.equal(asked, 2);
    });

    it("is not asked for by its refusal, nor by another error of that name", async () => {
      const named = () => Object.assign(new Error("no"), { name: "NuropbCallAgain" });
      for (const make of [() => new NuropbCallAgainReject("no"), named]) {
        const { service, runs, mesh } = await busy(make);
        const { error } = await mesh.requestRaw(service, "work");
        assert.notEqual(error, null);
        assert.equal(runs.length, 1);
      }
    });

    it("is not asked for by what a nested request ended in", async () => {
      const inner = await busy();
      const runs: unknown[] = [];
      const { name: outer } = await open.service({
        ask(_params: unknown, { mesh }: Context) {
          runs.push("ask");
          return mesh.request(inner.service, "work");
        },
      });
      const error = await failure(NuropbCallAgainReject, () => inner.mesh.request(outer, "ask"));
      assert.match(error.message, new RegExp(`^${inner.service}\\.work`));
      assert.deepEqual([runs.length, inner.runs.length], [1, 2]);
    });

    it("runs all handlers of an event again, of which one asked for it", async () => {
      const runs: unknown[] = [];
      const topic = uniqueName("topic");
      const { name: service } = await open.service({ alive: () => "alive" }, {
        concurrency: 1,
        events: {
          [`${topic}.*`]: (_event, { redelivered }) => void runs.push(["first", redelivered]),
          [`${topic}.#`]: (_event, { redelivered }) => {
            runs.push(["second", redelivered]);
            if (!redelivered) throw new NuropbCallAgain();
          },
        },
      });
      const mesh = await open.mesh();
      await mesh.publish(`${topic}.a`, 1);
      assert.deepEqual(await drain(mesh, service), []);
      assert.deepEqual(runs, [["first", false], ["second", false], ["first", true], ["second", true]]);
    });

    it("is possible anew for a letter that was replayed", async () => {
      const { service, runs, mesh } = await busy();
      await mesh.command(service, "work", { a: 1 });
      await using letters = mesh.deadLetters();
      await (await nextLetter(letters, service)).replay();
      const again = await nextLetter(letters, service);
      again.discard();
      assert.deepEqual(runs.map((run) => (run as unknown[])[1]), [false, true, false, true]);
    });

    it("keeps the message in its place: what came later comes later", async () => {
      const runs: string[] = [];
      const { name: service } = await open.service({
        first(_params: unknown, { redelivered }: Context) {
          runs.push("first");
          if (!redelivered) throw new NuropbCallAgain();
        },
        second: () => void runs.push("second"),
      }, { concurrency: 1 });
      const mesh = await open.mesh();
      await mesh.describe(service);
      await Promise.all([mesh.request(service, "first"), mesh.request(service, "second")]);
      assert.deepEqual(runs, ["first", "first", "second"]);
    });

    it("does not give the caller a second chance when its time is over", async () => {
      let giveUp = () => {};
      const gaveUp = new Promise<void>((resolve) => giveUp = resolve);
      const { name: service } = await open.service({
        async work(_params: unknown, { redelivered }: Context) {
          if (redelivered) return "too late";
          await gaveUp;
          throw new NuropbCallAgain();
        },
        alive: () => "alive",
      });
      const mesh = await open.mesh();
      await failure(NuropbTimeoutError, () => mesh.request(service, "work", {}, { ttl: 100 }));
      giveUp();
      assert.equal(await mesh.request(service, "alive"), "alive");
    });
  });
}
