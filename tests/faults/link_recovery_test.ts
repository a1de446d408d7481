import assert from "node:assert/strict";
import type { Mesh } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { pass, within } from "../conformance/stage.ts";
import { rabbitmqUrl } from "../support/env.ts";
import type { FaultProxy } from "./fault_proxy.ts";
import { linkStage } from "./link_stage.ts";

const url = rabbitmqUrl();

/** How long the broker cannot be reached, in ms, and how often that is tried, all at once. */
const absences = [0, 1_000, 4_000, 10_000].flatMap((absence) => Array.from({ length: 3 }, () => absence));

const WORST_MS = 5_000;
const MEDIAN_MS = 2_000;

/** From the broker's return to the next answer, in ms. */
async function recovery(proxy: FaultProxy, absence: number, mesh: Mesh, service: string): Promise<number> {
  if (absence > 0) await proxy.refuse(true);
  if (absence % 4_000 === 0) proxy.drop();
  else proxy.reset();
  // Lets the attempts that fail stretch the delay.
  await pass(absence);
  await proxy.refuse(false);
  const returned = performance.now();
  const answer = mesh.request(service, "work", {}, { idempotent: true });
  assert.equal(await within(answer, WORST_MS), "done");
  return performance.now() - returned;
}

if (url !== undefined) {
  describe("after the broker is back", () => {
    const open = linkStage(url);

    it("service and caller work again within 2 s by the median and 5 s at worst", async () => {
      const times = await Promise.all(absences.map(async (absence) => {
        const proxy = await open.proxy();
        const service = await open.service(proxy, { work: () => "done" });
        const mesh = await open.mesh(proxy);
        await mesh.describe(service.name);
        return await recovery(proxy, absence, mesh, service.name);
      }));
      const sorted = times.toSorted((a, b) => a - b);
      const median = sorted[Math.floor(sorted.length / 2)]!;
      assert.ok(median <= MEDIAN_MS, `the median of ${sorted.map(Math.round).join(", ")} ms`);
    });
  });
}
