import assert from "node:assert/strict";
import { NuropbCallAgain, NuropbNotDeliveredError } from "@nuropb/mesh";
import type { Context } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { uniqueName, urls } from "../support/env.ts";
import { failure, signal, stage, within } from "./stage.ts";

for (const { name, url } of urls()) {
  describe(`command on ${name}`, () => {
    const open = stage(url);

    it("runs the method with its params, and resolves to nothing", async () => {
      const ran = signal<unknown>();
      const service = await open.service({ work: (params: unknown) => ran.send(params) });
      const mesh = await open.mesh();
      assert.equal(await mesh.command(service.name, "work", { a: [1, { b: "ü" }] }), undefined);
      assert.deepEqual(await within(ran.promise), { a: [1, { b: "ü" }] });
    });

    it("gives the method an empty object when there are no params", async () => {
      const ran = signal<unknown>();
      const service = await open.service({ work: (params: unknown) => ran.send(params) });
      await (await open.mesh()).command(service.name, "work");
      assert.deepEqual(await within(ran.promise), {});
    });

    it("takes context and trace along", async () => {
      const ran = signal<Context>();
      const service = await open.service({ work: (_params: unknown, ctx: Context) => ran.send(ctx) });
      const mesh = await open.mesh();
      await mesh.command(service.name, "work", {}, { context: { user: "Ann" }, traceId: "trace-1" });
      const { raw, traceId, redelivered } = await within(ran.promise);
      assert.deepEqual({ raw, traceId, redelivered }, {
        raw: { user: "Ann" },
        traceId: "trace-1",
        redelivered: false,
      });
    });

    it("is done with once the broker has it, however long the method takes", async () => {
      const end = signal();
      const service = await open.service({ work: () => end.promise });
      const mesh = await open.mesh();
      await within(mesh.command(service.name, "work"));
      end.send();
    });

    it("fails when nobody hosts the service, and says so as Python does", async () => {
      const mesh = await open.mesh();
      const nobody = uniqueName("nobody");
      const error = await failure(NuropbNotDeliveredError, () => mesh.command(nobody, "work"));
      assert.equal(error.code, "NOT_DELIVERED");
      assert.equal(error.message, `Service ${nobody} not available. unable to call method work`);
      assert.equal(error.remote, undefined);
    });

    it("fails for the one that nobody takes, and not for those sent with it", async () => {
      const service = await open.service({ work() {} });
      const mesh = await open.mesh();
      const nobody = uniqueName("nobody");
      const targets = Array.from({ length: 40 }, (_, index) => index % 2 === 0 ? service.name : nobody);
      const outcomes = await Promise.allSettled(targets.map((target) => mesh.command(target, "work")));
      const expected = targets.map((target) => target === nobody ? "rejected" : "fulfilled");
      assert.deepEqual(outcomes.map(({ status }) => status), expected);
    });

    it("waits in the queue while no instance of the service runs", async () => {
      const target = uniqueName("service");
      const first = await open.service({ work() {} }, { name: target });
      const mesh = await open.mesh();
      await mesh.describe(target);
      await first.close();
      await mesh.command(target, "work", { number: 1 });
      const ran = signal<unknown>();
      await open.service({ work: (params: unknown) => ran.send(params) }, { name: target });
      assert.deepEqual(await within(ran.promise), { number: 1 });
    });

    it("runs nothing when the method is unknown, and the service goes on", async () => {
      const service = await open.service({ work: () => "done" });
      const mesh = await open.mesh();
      await mesh.command(service.name, "missing");
      assert.equal(await mesh.request(service.name, "work"), "done");
    });

    it("is not run again when the method throws, and the service goes on", async () => {
      const runs: unknown[] = [];
      const service = await open.service({
        work(params: unknown) {
          runs.push(params);
          throw new Error("no");
        },
        runs: () => runs.length,
      }, { concurrency: 1 });
      const mesh = await open.mesh();
      await mesh.command(service.name, "work");
      assert.equal(await mesh.request(service.name, "runs"), 1);
    });

    it("is run once more when the method asks for it, and no third time", async () => {
      const runs: boolean[] = [];
      const service = await open.service({
        work(_params: unknown, { redelivered }: Context) {
          runs.push(redelivered);
          throw new NuropbCallAgain("later");
        },
        runs: () => runs,
      }, { concurrency: 1 });
      const mesh = await open.mesh();
      await mesh.command(service.name, "work");
      assert.deepEqual(await mesh.request(service.name, "runs"), [false, true]);
    });
  });
}
