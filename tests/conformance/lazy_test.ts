import assert from "node:assert/strict";
import { connect, NuropbTransportError, NuropbValidationError } from "@nuropb/mesh";
import type { ConnectOptions } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { uniqueName, urls } from "../support/env.ts";
import { failure, reasonOf, stage, take, within } from "./stage.ts";
import { askAll } from "./support_ask.ts";

const lazy = { lazy: true };
const plain = { encrypted: false };

for (const { name, url } of urls()) {
  describe(`a lazy mesh on ${name}`, () => {
    const open = stage(url);

    it("is there before its connection, and answers what is asked at once", async () => {
      const service = await open.service({ work: () => "done" });
      const mesh = await open.mesh(lazy);
      assert.deepEqual(mesh.status, { state: "connecting", attempt: 1 });
      const [, ...results] = await within(Promise.all(askAll(mesh, service.name)));
      assert.deepEqual(results.slice(0, 3), ["done", "done", "done"]);
      assert.deepEqual(mesh.status, { state: "open" });
      assert.equal(await mesh.request(service.name, "work"), "done");
    });

    it("gets the events of a subscription that was made before its connection", async () => {
      const topic = uniqueName("topic");
      const mesh = await open.mesh(lazy);
      const events = mesh.subscribe<number>(topic);
      await within(events.ready);
      await mesh.publish(topic, 7);
      assert.deepEqual((await take(events, 1)).map(({ event }) => event), [7]);
    });

    it("answers a crowd of requests once each", async () => {
      const runs: number[] = [];
      const service = await open.service({
        work({ number }: { number: number }) {
          runs.push(number);
          return number;
        },
      });
      const mesh = await open.mesh(lazy);
      const numbers = Array.from({ length: 500 }, (_, number) => number);
      const answers = numbers.map((number) => mesh.request(service.name, "work", { number }, plain));
      assert.deepEqual(await within(Promise.all(answers)), numbers);
      assert.deepEqual(runs.toSorted((a, b) => a - b), numbers);
    });

    it("can be shared by a service, and be a service's own", async () => {
      const mesh = await open.mesh(lazy);
      const shared = await open.service({ work: () => "shared" }, { mesh });
      const own = await open.service({ work: () => "own" }, lazy);
      assert.equal(await mesh.request(shared.name, "work"), "shared");
      assert.equal(await mesh.request(own.name, "work"), "own");
    });

    it("tells at once that nobody hosts a service", async () => {
      const mesh = await open.mesh(lazy);
      const error = await reasonOf(() => within(mesh.request(uniqueName("nobody"), "work", {}, plain)));
      assert.equal((error as NuropbTransportError).code, "NOT_DELIVERED");
    });

    it("can be closed before it is connected: what waits learns it, and it ends once", async () => {
      const mesh = await connect(url, lazy);
      const states: string[] = [];
      mesh.addEventListener("status", ({ detail }) => states.push(detail.state));
      const asked = askAll(mesh, "nobody").map((promise) => reasonOf(() => within(promise)));
      await within(mesh.close());
      for (const reason of await Promise.all(asked)) {
        assert.ok(reason instanceof NuropbTransportError);
        assert.equal(reason.code, "CLOSED");
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
      assert.deepEqual(states, ["closing", "closed"]);
      assert.equal(mesh.status.state, "closed");
    });

    it("is refused when `lazy` is no boolean", async () => {
      const options = { lazy: "yes" } as unknown as ConnectOptions;
      const error = await failure(NuropbValidationError, () => connect(url, options));
      assert.match(error.message, /lazy/);
    });
  });
}
