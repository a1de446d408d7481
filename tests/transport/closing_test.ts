import assert from "node:assert/strict";
import { connect, serve } from "@nuropb/mesh";
import { afterEach, describe, it } from "@std/testing/bdd";
import { deferred } from "../../src/deferred.ts";
import { makeKeys } from "../conformance/support_keys.ts";
import { noticeRejections, soon } from "./fake_broker.ts";

const { subtle } = crypto;
const { encrypt } = subtle;

describe("a mesh that is closed while calls are being encrypted", () => {
  noticeRejections();
  afterEach(() => {
    subtle.encrypt = encrypt;
  });

  const calls = ["request", "command"] as const;

  for (const call of calls) {
    it(`rejects a ${call}, and sends nothing of it`, async () => {
      const handled: unknown[] = [];
      const order = (params: unknown) => handled.push(params);
      const { privatePem: privateKey } = makeKeys();
      await using service = await serve({ order }, { url: "memory:closing", name: "shop", privateKey });
      const mesh = await connect("memory:closing");
      const [begun, gate] = [deferred<void>(), deferred<void>()];
      subtle.encrypt = async (...args) => {
        begun.resolve();
        await gate.promise;
        return await encrypt.apply(subtle, args);
      };
      const closed = assert.rejects(soon(mesh[call]("shop", "order", {}, { encrypted: true })), {
        code: "CLOSED",
      });
      await soon(begun.promise);
      await mesh.close();
      gate.resolve();
      await closed;
      // Whatever was sent before that is handled before it is answered.
      subtle.encrypt = encrypt;
      await service.mesh.describe("shop", { refresh: true });
      assert.deepEqual(handled, []);
    });
  }
});
