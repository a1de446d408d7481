import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import { describe, it } from "@std/testing/bdd";
import { urls } from "../support/env.ts";
import { stage } from "./stage.ts";

for (const { name, url } of urls()) {
  describe(`what cannot be called on ${name}`, () => {
    const open = stage(url);

    it("is what a class inherits from an EventEmitter", async () => {
      class Emitter extends EventEmitter {
        own() {}
      }
      const service = await open.service(new Emitter());
      const mesh = await open.mesh();
      assert.deepEqual(Object.keys((await mesh.describe(service.name)).methods), ["own"]);
      for (const member of ["emit", "on", "removeAllListeners"]) {
        const { error } = await mesh.requestRaw(service.name, member, { type: "x" });
        assert.deepEqual(error, { error: "NuropbHandlingError", description: `Unknown method ${member}` });
      }
    });
  });
}
