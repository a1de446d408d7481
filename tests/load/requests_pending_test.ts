import assert from "node:assert/strict";
import { describe, it } from "@std/testing/bdd";
import { NuropbTransportError } from "@nuropb/mesh";
import type { Mesh } from "@nuropb/mesh";
import { signal, stage } from "../conformance/stage.ts";
import { urls } from "../support/env.ts";
import { noticeRejections } from "../transport/fake_broker.ts";

const COUNT = 100_000;
/** Far more than all of them take. */
const TTL = 600_000;

for (const { name, url } of urls()) {
  describe(`${COUNT} requests that wait for their answers at once on ${name}`, () => {
    noticeRejections();
    const open = stage(url);

    /** A service that answers nothing before it may, and a mesh of its callers. */
    async function openHeld() {
      const begun = signal();
      const gate = signal();
      const service = await open.service({
        async double({ index }: { index: number }) {
          begun.send();
          await gate.promise;
          return 2 * index;
        },
      }, { concurrency: 1_000 });
      const mesh = await open.mesh();
      return { mesh, service: service.name, begun, gate };
    }

    function requestAll(mesh: Mesh, service: string): Promise<number>[] {
      return Array.from(
        { length: COUNT },
        (_, index) => mesh.request<number>(service, "double", { index }, { ttl: TTL, encrypted: false }),
      );
    }

    it("get each its own", async () => {
      const { mesh, service, begun, gate } = await openHeld();
      const requests = requestAll(mesh, service);
      await begun.promise;
      gate.send();
      const answers = await Promise.all(requests);
      assert.equal(answers.length, COUNT);
      assert.equal(answers.findIndex((answer, index) => answer !== 2 * index), -1);
    });

    it("are all rejected when the mesh is closed", async () => {
      const { mesh, service, begun, gate } = await openHeld();
      const requests = requestAll(mesh, service);
      await begun.promise;
      const outcomes = Promise.allSettled(requests);
      await mesh.close();
      const refused = (await outcomes).filter((outcome) =>
        outcome.status === "rejected" && outcome.reason instanceof NuropbTransportError &&
        outcome.reason.code === "CLOSED"
      );
      assert.equal(refused.length, COUNT);
      gate.send();
    });
  });
}
