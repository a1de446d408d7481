import assert from "node:assert/strict";
import { NuropbTimeoutError, NuropbTransportError } from "@nuropb/mesh";
import type { Mesh } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { uniqueName, urls } from "../support/env.ts";
import { failure, reasonOf, signal, stage, within } from "./stage.ts";

for (const { name, url } of urls()) {
  describe(`a request always ends on ${name}`, () => {
    const open = stage(url);

    /** A service with a method that never answers before the test lets it. */
    async function hanging() {
      const [begun, end] = [signal(), signal()];
      const calls: string[] = [];
      const service = await open.service({
        async hang(_params: unknown) {
          calls.push("hang");
          begun.send();
          await end.promise;
          return "too late";
        },
        quick() {
          calls.push("quick");
          return "quick";
        },
      });
      return { service, begun: begun.promise, end: () => end.send(), calls };
    }

    it("with NuropbTimeoutError at its ttl, which names what was asked", async () => {
      const { service, end } = await hanging();
      const mesh = await open.mesh();
      const started = performance.now();
      const error = await failure(
        NuropbTimeoutError,
        () => mesh.request(service.name, "hang", {}, { ttl: 200 }),
      );
      const took = performance.now() - started;
      assert.equal(error.code, "TIMEOUT");
      assert.ok(
        error.message.includes(`${service.name}.hang`) && error.message.includes("200 ms"),
        error.message,
      );
      assert.ok(took >= 195 && took < 2_000, `${took} ms`);
      end();
    });

    it("at the shortest ttl too", async () => {
      const { service, end } = await hanging();
      const mesh = await open.mesh();
      await failure(NuropbTimeoutError, () => mesh.request(service.name, "hang", {}, { ttl: 1 }));
      end();
    });

    it("and one that is too late is nobody's answer", async () => {
      const { service, begun, end } = await hanging();
      const mesh = await open.mesh();
      const late = failure(NuropbTimeoutError, () => mesh.request(service.name, "hang", {}, { ttl: 400 }));
      await within(begun);
      await late;
      end();
      for (let count = 0; count < 3; count++) {
        assert.equal(await mesh.request(service.name, "quick"), "quick");
      }
    });

    it("with the reason of its signal, while it waits", async () => {
      const { service, begun, end } = await hanging();
      const mesh = await open.mesh();
      const controller = new AbortController();
      const reason = reasonOf(() => mesh.request(service.name, "hang", {}, { signal: controller.signal }));
      await within(begun);
      const own = { own: "reason" };
      controller.abort(own);
      assert.equal(await within(reason), own);
      end();
      assert.equal(await mesh.request(service.name, "quick"), "quick");
    });

    it("with the reason of its signal, before anything is sent", async () => {
      const { service, end, calls } = await hanging();
      const mesh = await open.mesh();
      const own = new Error("own reason");
      const options = { signal: AbortSignal.abort(own) };
      const proxy = mesh.service<{ quick(): string }>(service.name);
      const topic = uniqueName("topic");
      const subscription = mesh.subscribe(topic);
      await subscription.ready;
      for (
        const operation of [
          () => mesh.request(service.name, "quick", {}, options),
          () => mesh.requestRaw(service.name, "quick", {}, options),
          () => mesh.command(service.name, "quick", {}, options),
          () => mesh.describe(service.name, options),
          () => mesh.publish(topic, "aborted", options),
          () => proxy.quick(undefined, options),
        ]
      ) {
        assert.equal(await within(reasonOf(operation)), own);
      }
      assert.equal(await mesh.request(service.name, "quick"), "quick");
      assert.deepEqual(calls, ["quick"]);
      await mesh.publish(topic, "sent");
      assert.equal((await within(subscription.next())).value?.event, "sent");
      end();
    });

    it("with an AbortError when the signal gives no reason of its own, and a TimeoutError of AbortSignal.timeout", async () => {
      const { service, end } = await hanging();
      const mesh = await open.mesh();
      const ask = (signal: AbortSignal) => reasonOf(() => mesh.request(service.name, "hang", {}, { signal }));
      assert.equal((await ask(AbortSignal.abort()) as Error).name, "AbortError");
      assert.equal((await ask(AbortSignal.timeout(20)) as Error).name, "TimeoutError");
      end();
    });

    it("and a signal that aborts after the answer changes nothing", async () => {
      const { service, end } = await hanging();
      const mesh = await open.mesh();
      const controller = new AbortController();
      assert.equal(await mesh.request(service.name, "quick", {}, { signal: controller.signal }), "quick");
      controller.abort();
      assert.equal(await mesh.request(service.name, "quick"), "quick");
      end();
    });

    it("with code CLOSED when the mesh is closed meanwhile", async () => {
      const { service, begun, end } = await hanging();
      const mesh = await open.mesh();
      const hang = () => failure(NuropbTransportError, () => mesh.request(service.name, "hang"));
      const pending = [hang(), hang(), hang()];
      await within(begun);
      await mesh.close();
      for (const error of await within(Promise.all(pending))) assert.equal(error.code, "CLOSED");
      end();
    });

    it("and so does everything that was begun in the turn in which the mesh is closed", async () => {
      const { service, end } = await hanging();
      const mesh = await open.mesh();
      const begun = [
        mesh.request(service.name, "quick"),
        mesh.command(service.name, "quick"),
        mesh.publish(uniqueName("topic"), 1),
        mesh.describe(service.name),
      ];
      const outcomes = Promise.allSettled(begun);
      await mesh.close();
      for (const outcome of await within(outcomes)) {
        if (outcome.status === "fulfilled") continue;
        assert.ok(outcome.reason instanceof NuropbTransportError);
        assert.equal(outcome.reason.code, "CLOSED");
      }
      end();
    });

    const afterwards: [string, (mesh: Mesh) => unknown][] = [
      ["request", (mesh) => mesh.request("service", "method")],
      ["requestRaw", (mesh) => mesh.requestRaw("service", "method")],
      ["command", (mesh) => mesh.command("service", "method")],
      ["publish", (mesh) => mesh.publish("topic", 1)],
      ["describe", (mesh) => mesh.describe("service")],
      ["a call of the typed proxy", (mesh) => mesh.service<{ method(): void }>("service").method()],
      ["ready", (mesh) => mesh.ready()],
    ];
    for (const [what, operation] of afterwards) {
      it(`and ${what} with code CLOSED at once when the mesh has been closed before`, async () => {
        const mesh = await open.mesh();
        await mesh.close();
        assert.equal(mesh.status.state, "closed");
        const error = await failure(
          NuropbTransportError,
          () => within(Promise.resolve(operation(mesh)), 1_000),
        );
        assert.equal(error.code, "CLOSED");
      });
    }

    it("and closing a mesh twice, or disposing of it, does no harm", async () => {
      const mesh = await open.mesh();
      await Promise.all([mesh.close(), mesh.close()]);
      await mesh.close();
      await mesh[Symbol.asyncDispose]();
      const other = await open.mesh();
      await other[Symbol.asyncDispose]();
      assert.equal(other.status.state, "closed");
    });

    it("whatever maxPending says, which is for those that wait for a connection", async () => {
      const { service, begun, end } = await hanging();
      const mesh = await open.mesh({ maxPending: 2 });
      await mesh.describe(service.name);
      const three = Promise.allSettled([1, 2, 3].map(() => mesh.request(service.name, "hang")));
      await within(begun);
      end();
      assert.deepEqual((await within(three)).map(({ status }) => status), [
        "fulfilled",
        "fulfilled",
        "fulfilled",
      ]);
    });

    it("tells of its status while it opens and closes", async () => {
      const mesh = await open.mesh();
      const states: string[] = [];
      mesh.addEventListener("status", ({ detail }) => states.push(detail.state));
      assert.equal(mesh.status.state, "open");
      await mesh.ready();
      await mesh.close();
      assert.deepEqual(states, ["closing", "closed"]);
    });
  });
}
