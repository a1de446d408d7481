import assert from "node:assert/strict";
import { connect, NuropbNotDeliveredError, NuropbTransportError, serve } from "@nuropb/mesh";
import type { Mesh } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { uniqueName, urls } from "../support/env.ts";
import { closing, failure, reasonOf } from "./stage.ts";

for (const { name, url } of urls()) {
  describe(`connecting on ${name}`, () => {
    const opening = closing();

    it("rejects with the reason of a signal that has aborted before", async () => {
      const signal = AbortSignal.abort("enough");
      assert.equal(await reasonOf(() => connect(url, { signal })), "enough");
      assert.equal(await reasonOf(() => serve({ work() {} }, { url, name: "service", signal })), "enough");
    });

    it("does not mind a signal that aborts once it is done", async () => {
      const controller = new AbortController();
      const mesh = await opening(connect(url, { signal: controller.signal }));
      const target = uniqueName("service");
      await opening(serve({ work: () => "done" }, { url, name: target, signal: controller.signal }));
      controller.abort();
      assert.equal(await mesh.request(target, "work"), "done");
      assert.equal(mesh.status.state, "open");
    });

    it("makes meshes that are independent of each other", async () => {
      const [first, second] = [await opening(connect(url)), await opening(connect(url))];
      await first.close();
      const target = uniqueName("service");
      await opening(serve({ work: () => "done" }, { url, name: target }));
      assert.equal(await second.request(target, "work"), "done");
    });

    it("is quick enough to be done 20 times at once", async () => {
      const meshes = await Promise.all(Array.from({ length: 20 }, () => opening<Mesh>(connect(url))));
      await Promise.all(meshes.map((mesh) => mesh.publish(uniqueName("topic"), 1)));
    });
  });
}

describe("memory: urls", () => {
  it("lead to one broker for each name", async () => {
    const [one, two] = [`memory:${uniqueName("one")}`, `memory:${uniqueName("two")}`];
    const service = await serve({ work: () => "done" }, { url: one, name: "service" });
    const [same, other] = [await connect(one), await connect(two)];
    assert.equal(await same.request("service", "work"), "done");
    await failure(NuropbNotDeliveredError, () => other.request("service", "work"));
    await Promise.all([same.close(), other.close(), service.close()]);
  });

  for (const strange of ["memory://mesh-in-place-of-a-host", "memory:name?query", "memory:name#fragment"]) {
    it(`are not understood to be another than is written: ${strange}`, async () => {
      const plain = strange.includes("//") ? "memory:" : "memory:name";
      const target = uniqueName("service");
      const service = await serve({ work: () => "done" }, { url: plain, name: target });
      const asked = connect(strange).then(async (mesh) => {
        const answer = await mesh.request(target, "work").catch(() => "another broker");
        await mesh.close();
        return answer;
      }, (error: NuropbTransportError) => error.code);
      assert.match(String(await asked), /^(INVALID_URL|another broker)$/);
      await service.close();
    });
  }
});
