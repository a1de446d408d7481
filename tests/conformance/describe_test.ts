import assert from "node:assert/strict";
import { method, NuropbNotDeliveredError } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { uniqueName, urls } from "../support/env.ts";
import { failure, reasonOf, stage, within } from "./stage.ts";

class Shop {
  @method({ description: "takes an order" })
  order() {}

  @method({ hidden: true })
  secret() {}

  plain() {}

  _internal() {}

  readonly price = 5;
}

const noParameters = { type: "object", properties: {}, required: [] };

for (const { name, url } of urls()) {
  describe(`describe on ${name}`, () => {
    const open = stage(url);

    it("tells what the service is and which methods it has", async () => {
      const service = await open.service(new Shop(), { version: "1.2.3", description: "sells" });
      const mesh = await open.mesh();
      const { methods, ...facts } = await mesh.describe(service.name);
      assert.deepEqual(facts, {
        name: service.name,
        version: "1.2.3",
        description: "sells",
        warnings: [],
        encryptedMethods: false,
        publicKey: null,
      });
      assert.deepEqual(
        Object.entries(methods).map((
          [key, { description, requiresEncryption, parameters }],
        ) => [key, description, requiresEncryption, parameters]),
        [["order", "takes an order", false, noParameters], ["plain", "", false, noParameters]],
      );
    });

    it("is a method that Python callers find too", async () => {
      const service = await open.service(new Shop());
      const mesh = await open.mesh();
      const wire = await mesh.request<Record<string, unknown>>(service.name, "nuropb_describe");
      const { service_name, service_version, description, warnings, encrypted_methods, public_key } = wire;
      assert.deepEqual([service_name, service_version, description], [service.name, "", ""]);
      assert.deepEqual([warnings, encrypted_methods, public_key], [[], false, null]);
      const { order, ...others } = wire["methods"] as Record<string, Record<string, unknown>>;
      assert.deepEqual(Object.keys(others), ["plain"]);
      assert.equal(order?.["description"], "takes an order");
      assert.equal(order["requires_encryption"], false);
      assert.deepEqual(order["parameters"], noParameters);
    });

    it("asks a service once, and again when it is to refresh", async () => {
      const target = uniqueName("service");
      const mesh = await open.mesh();
      const first = await open.service({ a() {} }, { name: target, version: "1" });
      assert.equal((await mesh.describe(target)).version, "1");
      await first.close();
      await open.service({ b() {} }, { name: target, version: "2" });
      assert.equal((await mesh.describe(target)).version, "1");
      assert.equal((await mesh.describe(target, { refresh: true })).version, "2");
      const { version, methods } = await mesh.describe(target);
      assert.equal(version, "2");
      assert.deepEqual(Object.keys(methods), ["b"]);
    });

    it("does not keep a failure", async () => {
      const target = uniqueName("service");
      const mesh = await open.mesh();
      await failure(NuropbNotDeliveredError, () => mesh.describe(target));
      await open.service({ a() {} }, { name: target, version: "1" });
      assert.equal((await mesh.describe(target)).version, "1");
    });

    it("stops waiting when its own signal aborts, and not when another's does", async () => {
      const target = uniqueName("service");
      const first = await open.service({ a() {} }, { name: target });
      await first.close();
      const mesh = await open.mesh();
      const controller = new AbortController();
      const impatient = reasonOf(() => mesh.describe(target, { signal: controller.signal }));
      const patient = mesh.describe(target).catch((reason: unknown) => reason);
      controller.abort("enough");
      await open.service({ a() {} }, { name: target, version: "2" });
      assert.equal(await impatient, "enough");
      assert.deepEqual((await patient as { version?: string }).version, "2");
    });

    it("heeds an aborted signal even while another asks", async () => {
      const target = uniqueName("service");
      const first = await open.service({ a() {} }, { name: target });
      await first.close();
      const mesh = await open.mesh();
      const patient = mesh.describe(target).catch(() => {});
      const options = { signal: AbortSignal.abort("enough") };
      assert.equal(await reasonOf(() => within(mesh.describe(target, options), 1_000)), "enough");
      await open.service({ a() {} }, { name: target });
      await patient;
    });

    it("can be asked from within a method", async () => {
      const other = await open.service({ a() {} }, { version: "7" });
      const service = await open.service({
        ask: async (
          _params: unknown,
          { mesh }: { mesh: { describe(name: string): Promise<{ version: string }> } },
        ) => (await mesh.describe(other.name)).version,
      });
      assert.equal(await (await open.mesh()).request(service.name, "ask"), "7");
    });
  });
}
