import assert from "node:assert/strict";
import { method, NuropbHandlingError } from "@nuropb/mesh";
import type { Context } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { urls } from "../support/env.ts";
import { failure, stage } from "./stage.ts";
import { Log } from "./support_log.ts";

class Shop {
  @method({ description: "takes an order", deprecated: "use order" })
  buy() {
    return "bought";
  }

  @method({ deprecated: "use refund" })
  fail() {
    throw new Error("no refund");
  }

  order() {
    return "ordered";
  }

  @method({ deprecated: "use nothing", hidden: true })
  secret() {
    return "secret";
  }
}

for (const { name, url } of urls()) {
  describe(`a deprecated method on ${name}`, () => {
    const open = stage(url);

    async function shop() {
      const service = await open.service(new Shop());
      const log = new Log();
      const warnings = () => log.of("warn").map(({ message, fields }) => [message, fields]);
      return { service: service.name, warnings, mesh: await open.mesh({ logger: log }) };
    }

    it("is so described, for callers of ours and of Python's, and no other is", async () => {
      const { service, mesh } = await shop();
      const { methods } = await mesh.describe(service);
      assert.deepEqual(Object.entries(methods).map(([key, { deprecated }]) => [key, deprecated]), [
        ["buy", "use order"],
        ["fail", "use refund"],
        ["order", null],
      ]);
      assert.equal(methods["buy"]?.description, "takes an order");
      const wire = await mesh.request<{ methods: Record<string, object> }>(service, "nuropb_describe");
      assert.equal((wire.methods["buy"] as { deprecated?: string }).deprecated, "use order");
      assert.equal("deprecated" in wire.methods["order"]!, false);
    });

    it("tells its caller what to use, beside the result", async () => {
      const { service, mesh } = await shop();
      const { result, error, warning } = await mesh.requestRaw(service, "buy");
      assert.deepEqual([result, error, warning], ["bought", null, "use order"]);
      assert.equal((await mesh.requestRaw(service, "order")).warning, null);
      assert.equal((await mesh.requestRaw(service, "nuropb_describe")).warning, null);
    });

    it("tells its caller what to use, beside an error", async () => {
      const { service, mesh, warnings } = await shop();
      const { error, warning } = await mesh.requestRaw(service, "fail");
      assert.deepEqual([error?.description, warning], ["no refund", "use refund"]);
      assert.equal(warnings().length, 1);
    });

    it("is told to the caller's log once, however it is called", async () => {
      const { service, mesh, warnings } = await shop();
      const proxy = mesh.service<Shop>(service);
      await Promise.all([mesh.request(service, "buy"), mesh.requestRaw(service, "buy"), proxy.buy()]);
      await mesh.request(service, "buy");
      await mesh.request(service, "order");
      const fields = { service, method: "buy", warning: "use order" };
      assert.deepEqual(warnings(), [[`${service}.buy warns its callers`, fields]]);
    });

    it("is told once for each method, each service and each caller", async () => {
      const [one, other] = [await shop(), await shop()];
      for (const { service } of [one, other]) {
        for (const called of ["buy", "buy", "fail"]) {
          for (const { mesh } of [one, other]) await mesh.requestRaw(service, called);
        }
      }
      for (const { warnings } of [one, other]) {
        assert.deepEqual(
          warnings().map((
            [, fields],
          ) => [(fields as { service: string }).service, (fields as { method: string }).method]),
          [
            [one.service, "buy"],
            [one.service, "fail"],
            [other.service, "buy"],
            [other.service, "fail"],
          ],
        );
      }
    });

    it("is told to the log of the service that calls it from within a method, once", async () => {
      const { service, mesh } = await shop();
      const log = new Log();
      const outer = await open.service({
        ask: (_params: unknown, ctx: Context) => ctx.mesh.request(service, "buy"),
      }, { logger: log });
      for (let count = 0; count < 3; count++) assert.equal(await mesh.request(outer.name, "ask"), "bought");
      assert.deepEqual(log.of("warn").map(({ fields }) => fields["warning"]), ["use order"]);
    });

    it("runs for a command as ever", async () => {
      const { service, mesh, warnings } = await shop();
      await mesh.command(service, "buy");
      assert.equal(await mesh.request(service, "order"), "ordered");
      assert.deepEqual(warnings(), []);
    });

    it("is neither described nor called when it is hidden, and says nothing of itself", async () => {
      const { service, mesh, warnings } = await shop();
      const wire = JSON.stringify(await mesh.request(service, "nuropb_describe"));
      assert.doesNotMatch(wire, /secret|use nothing/);
      await failure(NuropbHandlingError, () => mesh.request(service, "secret"));
      assert.equal((await mesh.requestRaw(service, "secret")).warning, null);
      assert.deepEqual(warnings(), []);
    });

    it("may be marked by the options, over what a decorator says", async () => {
      const service = await open.service(new Shop(), {
        methods: { buy: { deprecated: "use take" }, order: { deprecated: "use take too" } },
      });
      const { methods } = await (await open.mesh()).describe(service.name);
      assert.deepEqual([methods["buy"]?.deprecated, methods["order"]?.deprecated], [
        "use take",
        "use take too",
      ]);
      assert.equal(methods["buy"]?.description, "takes an order");
    });
  });
}
