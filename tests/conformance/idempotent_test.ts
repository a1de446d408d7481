import assert from "node:assert/strict";
import { describe, it } from "@std/testing/bdd";
import { urls } from "../support/env.ts";
import { stage } from "./stage.ts";

for (const { name, url } of urls()) {
  describe(`an idempotent request on ${name}`, () => {
    const open = stage(url);

    it("is answered like any other", async () => {
      const runs: unknown[] = [];
      const service = await open.service({ work: (params: unknown) => runs.push(params) });
      const mesh = await open.mesh();
      const proxy = mesh.service<{ work(params: object): number }>(service.name, { idempotent: true });
      assert.equal(await proxy.work({ a: 1 }), 1);
      assert.equal(await mesh.request(service.name, "work", { a: 2 }, { idempotent: true }), 2);
      assert.deepEqual(runs, [{ a: 1 }, { a: 2 }]);
    });
  });
}
