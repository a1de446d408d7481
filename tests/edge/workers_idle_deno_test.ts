/**
 * A Durable Object that is left alone. In a file of its own, which runs beside others: it takes its time.
 *
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "@std/testing/bdd";
import { stage, within } from "../conformance/stage.ts";
import { rabbitmqUrl, uniqueName } from "../support/env.ts";
import { bundle } from "./bundle.ts";
import { startWorkerd } from "./workerd.ts";

/** The runtime puts an object away between 70 and 140 s after its last request, whatever its connections do. */
const LATEST_END_MS = 180_000;

const url = rabbitmqUrl() ?? "";

(url === "" ? describe.skip : describe)("a Durable Object that nobody asks", () => {
  const open = stage(url);

  it("is put away and leaves its messages to other instances, unless an alarm keeps it", async () => {
    const code = await bundle("tests/edge/worker.ts");
    await using workerd = await startWorkerd({ code, env: { URL: url }, durableObjects: ["ServiceHost"] });
    const [kept, left] = [uniqueName("kept"), uniqueName("left")];
    await workerd.fetch(`/host?name=${kept}&alarm`);
    await workerd.fetch(`/host?name=${left}`);
    const mesh = await open.mesh();
    const held = mesh.request(left, "hold", {}, { encrypted: false, ttl: LATEST_END_MS });
    for (const name of [kept, left]) assert.equal(await mesh.request(name, "count"), 1);
    await open.service({ hold: () => "other" }, { name: left });
    assert.equal(await within(held, LATEST_END_MS), "other");
    assert.equal(await mesh.request(kept, "count"), 2);
  }, LATEST_END_MS + 30_000);
});
