import assert from "node:assert/strict";
import { NuropbTimeoutError, NuropbTransportError } from "@nuropb/mesh";
import type { ConnectOptions, Context } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { eventually, failure, pass, reasonOf, signal, within } from "../conformance/stage.ts";
import { rabbitmqUrl, uniqueName } from "../support/env.ts";
import { Ledger, linkStage, states, strikes } from "./link_stage.ts";

const url = rabbitmqUrl();

if (url !== undefined) {
  for (const { name, hit } of strikes) {
    describe(`calls over a link that is ${name}`, () => {
      const open = linkStage(url);

      it("fail with an unknown outcome if they were sent, and the next ones succeed", async () => {
        const [begun, end] = [signal(), signal()];
        const hang = () => {
          begun.send();
          return end.promise;
        };
        const service = await open.service(undefined, { hang, quick: () => "quick" });
        const proxy = await open.proxy();
        const mesh = await open.mesh(proxy);
        const call = mesh.request(service.name, "hang", {}, { ttl: 60_000 });
        const lost = failure(NuropbTransportError, () => call);
        await within(begun.promise);
        const back = states(mesh, ["waiting", "connecting", "open"]);
        hit(proxy);
        // A cut comes with the next bytes.
        const nudge = mesh.publish(uniqueName("topic"), {});
        const error = await within(lost);
        assert.equal(error.code, "CONNECTION_LOST");
        assert.match(error.message, new RegExp(`${service.name}\\.hang .*may have run`));
        await back;
        assert.equal(await within(mesh.request(service.name, "quick")), "quick");
        end.send();
        await within(nudge);
      });

      it("are sent again under the same id if they are idempotent", async () => {
        const [begun, end] = [signal(), signal()];
        const ids: string[] = [];
        const service = await open.service(undefined, {
          async add({ a, b }: { a: number; b: number }, ctx: Context) {
            ids.push(ctx.correlationId);
            begun.send();
            if (ids.length === 1) await end.promise;
            return a + b;
          },
        });
        const proxy = await open.proxy();
        const mesh = await open.mesh(proxy);
        const sum = mesh.request(service.name, "add", { a: 1, b: 2 }, { ttl: 60_000, idempotent: true });
        await within(begun.promise);
        hit(proxy);
        // A cut comes with the next bytes.
        const nudge = mesh.publish(uniqueName("topic"), {});
        assert.equal(await within(sum, 10_000), 3);
        assert.equal(ids.length, 2);
        assert.equal(ids[0], ids[1]);
        end.send();
        await within(nudge);
      });

      it("that are commands and events are each handled, whichever side loses its link", async () => {
        const ledger = new Ledger();
        const note = ({ id }: { id: string }) => ledger.handle(id);
        const topic = uniqueName("topic");
        const [ours, theirs] = [await open.proxy(), await open.proxy()];
        const service = await open.service(theirs, { note }, {
          events: { [topic]: (event) => note(event as { id: string }) },
          concurrency: 8,
        });
        const mesh = await open.mesh(ours);
        await mesh.describe(service.name);
        const told: Promise<void>[] = [];
        for (let round = 1; round <= 4; round++) {
          for (let each = 0; each < 50; each++) {
            told.push(mesh.command(service.name, "note", { id: ledger.send("command") }));
            told.push(mesh.publish(topic, { id: ledger.send("event") }));
          }
          if (round % 2 === 0) hit(theirs);
          await eventually(() => ledger.handled, (count) => count > (round - 1) * 100);
          hit(ours);
        }
        for (const outcome of await within(Promise.allSettled(told), 20_000)) {
          assert.equal(outcome.status, "fulfilled");
        }
        await ledger.settle();
      });
    });
  }

  describe("calls while the link is away", () => {
    const open = linkStage(url);

    /** A service on a sound link, and a caller whose link is away. */
    async function apart(options?: ConnectOptions, knowsService = true) {
      const ledger = new Ledger();
      const topic = uniqueName("topic");
      const note = ({ id }: { id: string }) => {
        ledger.handle(id);
        return id;
      };
      const service = await open.service(undefined, { note }, {
        events: { [topic]: (event) => void note(event as { id: string }) },
      });
      const proxy = await open.proxy();
      const mesh = await open.mesh(proxy, options);
      if (knowsService) await mesh.describe(service.name);
      const waiting = states(mesh, ["waiting"]);
      await proxy.refuse(true);
      proxy.drop();
      await waiting;
      return { ledger, topic, service: service.name, proxy, mesh };
    }

    it("wait, and succeed once it is back", async () => {
      const { ledger, topic, service, proxy, mesh } = await apart();
      const ids = Array.from({ length: 100 }, () => ledger.send("request"));
      const answers = Promise.all(ids.map((id) => mesh.request(service, "note", { id })));
      const told = Promise.all(ids.flatMap(() => [
        mesh.command(service, "note", { id: ledger.send("command") }),
        mesh.publish(topic, { id: ledger.send("event") }),
      ]));
      await states(mesh, ["connecting", "waiting"]);
      assert.equal(ledger.handled, 0);
      await proxy.refuse(false);
      assert.deepEqual(await within(answers), ids);
      await within(told);
      await ledger.settle();
    });

    for (const kind of ["request", "command", "publish"] as const) {
      for (const knowsService of kind === "publish" ? [true] : [true, false]) {
        const service = knowsService ? "a known service" : "a service that was never asked";
        it(`fail at once when too many wait already: ${kind} to ${service}`, async () => {
          const { ledger, topic, service, proxy, mesh } = await apart({ maxPending: 10 }, knowsService);
          const call = (id: string): Promise<unknown> => {
            return kind === "publish" ? mesh.publish(topic, { id }) : mesh[kind](service, "note", { id });
          };
          const waiting = Promise.all(Array.from({ length: 10 }, () => call(ledger.send(kind))));
          waiting.catch(() => {});
          const error = await within(failure(NuropbTransportError, () => call("one too many")), 1_000);
          assert.equal(error.code, "TOO_MANY_PENDING");
          assert.match(error.message, /\b10\b/);
          await proxy.refuse(false);
          await within(waiting);
          await ledger.settle();
        });
      }
    }

    it("end at once when their signal aborts, and are not sent later", async () => {
      const { ledger, topic, service, proxy, mesh } = await apart();
      const controller = new AbortController();
      const { signal } = controller;
      const reasons = [
        mesh.request(service, "note", { id: "request" }, { signal }),
        mesh.command(service, "note", { id: "command" }, { signal }),
        mesh.publish(topic, { id: "event" }, { signal }),
        mesh.ready({ signal }),
      ].map((call) => reasonOf(() => call));
      const reason = new Error("no longer wanted");
      controller.abort(reason);
      assert.deepEqual(await within(Promise.all(reasons), 1_000), reasons.map(() => reason));
      await proxy.refuse(false);
      assert.equal(await within(mesh.request(service, "note", { id: ledger.send("last") })), "last-0");
      await ledger.settle();
    });

    it("end at their deadline, and are not sent later", async () => {
      const { ledger, topic, service, proxy, mesh } = await apart({ confirmTimeout: 250 });
      const calls = [
        () => mesh.request(service, "note", { id: "request" }, { ttl: 100 }),
        () => mesh.request(service, "note", { id: "idempotent" }, { ttl: 100, idempotent: true }),
        () => mesh.command(service, "note", { id: "command" }),
        () => mesh.publish(topic, { id: "event" }),
      ];
      await within(Promise.all(calls.map((call) => failure(NuropbTimeoutError, call))), 1_000);
      await proxy.refuse(false);
      assert.equal(await within(mesh.request(service, "note", { id: ledger.send("last") })), "last-0");
      await ledger.settle();
    });

    it("that are commands end at their ttl, and are not sent later", async () => {
      const { ledger, service, proxy, mesh } = await apart();
      const late = () => mesh.command(service, "note", { id: "command" }, { ttl: 100 });
      await within(failure(NuropbTimeoutError, late), 1_000);
      await proxy.refuse(false);
      assert.equal(await within(mesh.request(service, "note", { id: ledger.send("last") })), "last-0");
      await ledger.settle();
    });
  });

  describe("the status of a mesh whose link is lost", () => {
    const open = linkStage(url);

    it("goes from open to waiting, connecting and open, once for each loss", async () => {
      const proxy = await open.proxy();
      const mesh = await open.mesh(proxy);
      const seen: string[] = [];
      mesh.addEventListener("status", ({ detail }) => seen.push(detail.state));
      for (let loss = 0; loss < 3; loss++) {
        const back = states(mesh, ["waiting", "open"]);
        assert.equal(mesh.status.state, "open");
        proxy.drop();
        await back;
      }
      const each = ["waiting", "connecting", "open"];
      assert.deepEqual(seen, [...each, ...each, ...each]);
    });

    it("says when the next attempt comes and why the last one failed, and ready() waits for it", async () => {
      const proxy = await open.proxy();
      const mesh = await open.mesh(proxy);
      await mesh.ready();
      const waiting = states(mesh, ["waiting", "connecting", "waiting"]);
      await proxy.refuse(true);
      proxy.reset();
      await waiting;
      const { status } = mesh;
      assert.ok(status.state === "waiting");
      assert.equal(status.attempt, 2);
      assert.ok(status.delay > 0 && status.delay <= 2_000, `${status.delay}`);
      assert.equal(status.error.code, "CONNECT_FAILED");
      const ready = mesh.ready({ signal: AbortSignal.timeout(10_000) });
      let isReady = false;
      void ready.then(() => isReady = true);
      await pass(50);
      assert.equal(isReady, false);
      await proxy.refuse(false);
      await within(ready);
      assert.equal(mesh.status.state, "open");
    });
  });
}
