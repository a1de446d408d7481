import assert from "node:assert/strict";
import { NuropbTransportError } from "@nuropb/mesh";
import type { Context, Mesh, Service } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { eventually, signal, take, within } from "../conformance/stage.ts";
import { rabbitmqUrl, uniqueName } from "../support/env.ts";
import { Ledger, linkStage, states, strikes } from "./link_stage.ts";

const url = rabbitmqUrl();

if (url !== undefined) {
  describe("services and subscriptions whose link is lost", () => {
    const open = linkStage(url);

    it("work again after each kind of loss, without anybody's help", async () => {
      const [theirs, ours] = [await open.proxy(), await open.proxy()];
      const topic = uniqueName("topic");
      const ledger = new Ledger();
      const service = await open.service(theirs, { echo: ({ text }: { text: string }) => text }, {
        events: { [topic]: (event) => ledger.handle(event as string) },
      });
      const subscriber = await open.mesh(ours);
      const subscription = subscriber.subscribe<string>(topic);
      await subscription.ready;
      const mesh = await open.mesh();
      for (const { name, hit } of strikes) {
        const back = [service.mesh, subscriber].map((mesh) => states(mesh, ["waiting", "open"]));
        hit(theirs);
        hit(ours);
        // A cut comes with the next bytes.
        const nudges = [service.mesh, subscriber].map((mesh) => mesh.publish(uniqueName("topic"), {}));
        await Promise.all(back);
        assert.equal(await within(mesh.request(service.name, "echo", { text: name })), name);
        const id = ledger.send(name);
        await mesh.publish(topic, id);
        assert.deepEqual((await take(subscription, 1)).map(({ event }) => event), [id]);
        await within(Promise.all(nudges));
      }
      await ledger.settle();
    });

    it("get while they are away what was sent to the service, and answer it afterwards", async () => {
      const proxy = await open.proxy();
      const ledger = new Ledger();
      const topic = uniqueName("topic");
      const note = ({ id }: { id: string }) => {
        ledger.handle(id);
        return id;
      };
      const service = await open.service(proxy, { note }, {
        events: { [topic]: (event) => void note(event as { id: string }) },
      });
      const mesh = await open.mesh();
      await mesh.describe(service.name);
      const waiting = states(service.mesh, ["waiting"]);
      await proxy.refuse(true);
      proxy.reset();
      await waiting;
      const ids = Array.from({ length: 100 }, () => ledger.send("request"));
      const answers = Promise.all(ids.map((id) => mesh.request(service.name, "note", { id })));
      await Promise.all(ids.flatMap(() => [
        mesh.command(service.name, "note", { id: ledger.send("command") }),
        mesh.publish(topic, { id: ledger.send("event") }),
      ]));
      assert.equal(ledger.handled, 0);
      await proxy.refuse(false);
      assert.deepEqual(await within(answers), ids);
      await ledger.settle();
    });

    it("are set up by a serve() or subscribe() that was under way", async () => {
      const attempts = Array.from({ length: 12 }, async (_, index) => {
        const proxy = await open.proxy();
        const mesh = await open.mesh(proxy);
        const topic = uniqueName("topic");
        const cut = proxy.cutAfter(1 + 60 * Math.floor(index / 2), index % 2 === 0 ? "toServer" : "toClient");
        const subscription = mesh.subscribe<number>(topic);
        const [service] = await Promise.all([
          open.service(undefined, { work: () => "done" }, { mesh }),
          subscription.ready,
        ]);
        await cut;
        await mesh.ready();
        const caller = await open.mesh();
        assert.equal(await caller.request(service.name, "work"), "done");
        await caller.publish(topic, index);
        assert.deepEqual((await take(subscription, 1)).map(({ event }) => event), [index]);
      });
      await within(Promise.all(attempts), 20_000);
    });

    it("survive a second loss while they come back", async () => {
      const losses = strikes.flatMap((first) => strikes.map((second) => [first, second] as const));
      await within(
        Promise.all(losses.map(async ([first, second]) => {
          const proxy = await open.proxy();
          const service = await open.service(proxy, { work: () => "done" });
          const back = states(service.mesh, ["waiting", "open"], 20_000);
          const { accepted } = proxy;
          first.hit(proxy);
          service.mesh.publish(uniqueName("topic"), {}).catch(() => {});
          await eventually(() => proxy.accepted, (count) => count > accepted);
          second.hit(proxy);
          await back;
          assert.equal(await (await open.mesh()).request(service.name, "work"), "done");
        })),
        20_000,
      );
    });

    it("survive twenty losses in the very moment of coming back", async () => {
      const [theirs, ours] = [await open.proxy(), await open.proxy()];
      const service = await open.service(theirs, { work: () => "done" });
      const subscriber = await open.mesh(ours);
      const topic = uniqueName("topic");
      const subscription = subscriber.subscribe<string>(topic);
      await subscription.ready;
      const harass = async (mesh: Mesh, proxy: typeof ours) => {
        for (let loss = 0; loss < 20; loss++) {
          const back = states(mesh, ["waiting", "open"]);
          await proxy.refuse(true);
          if (loss % 2 === 0) proxy.drop();
          else proxy.reset();
          await proxy.refuse(false);
          await back;
        }
      };
      await Promise.all([harass(service.mesh, theirs), harass(subscriber, ours)]);
      const mesh = await open.mesh();
      assert.equal(await mesh.request(service.name, "work"), "done");
      await mesh.publish(topic, "there");
      assert.deepEqual((await take(subscription, 1)).map(({ event }) => event), ["there"]);
    });
  });

  describe("closing over a link that is lost", () => {
    const open = linkStage(url);

    it("ends, wherever the link is cut or however it is lost", async () => {
      const faults = [
        ...strikes.map(({ hit }) => hit),
        ...[1, 20, 40, 60, 80].map((bytes) => (proxy: Awaited<ReturnType<typeof open.proxy>>) =>
          void proxy.cutAfter(bytes, "toServer")
        ),
      ];
      const closings = faults.map(async (hit) => {
        const proxy = await open.proxy();
        const mesh = await open.mesh(proxy);
        await mesh.subscribe(uniqueName("topic")).ready;
        const service = await open.service(proxy, { work: () => "done" });
        const closed = [service.close(), mesh.close()];
        hit(proxy);
        await within(Promise.all(closed), 5_000);
        assert.equal(mesh.status.state, "closed");
        assert.equal(service.mesh.status.state, "closed");
      });
      await Promise.all(closings);
    });

    it("ends even if the broker does not answer any more", async () => {
      const proxy = await open.proxy();
      const options = { connectTimeout: 1_000 };
      const mesh = await open.mesh(proxy, options);
      const service = await open.service(proxy, { work: () => "done" }, options);
      proxy.halfOpen(true);
      await within(Promise.all([mesh.close(), service.close()]));
    });

    it("leaves what a draining service could not finish to the next one, as redelivered", async () => {
      await Promise.all(strikes.map(async ({ hit }) => {
        const name = uniqueName("service");
        const proxy = await open.proxy();
        const [begun, end] = [signal(), signal()];
        const runs: string[] = [];
        const run = (instance: string) => async (_params: unknown, ctx: Context) => {
          runs.push(`${instance} ${ctx.redelivered}`);
          if (instance === "second") return instance;
          if (runs.length === 2) begun.send();
          await end.promise;
          return instance;
        };
        const first: Service = await open.service(proxy, { work: run("first") }, { name });
        const mesh = await open.mesh();
        await mesh.describe(name);
        await mesh.command(name, "work");
        const answer = mesh.request(name, "work", {}, { ttl: 20_000 });
        await within(begun.promise);
        const closed = first.close();
        hit(proxy);
        first.mesh.publish(uniqueName("topic"), {}).catch((error: unknown) => {
          assert.ok(error instanceof NuropbTransportError);
        });
        await states(first.mesh, ["waiting"]);
        end.send();
        await within(closed);
        await open.service(undefined, { work: run("second") }, { name });
        assert.equal(await within(answer), "second");
        await eventually(() => runs.length, (count) => count === 4);
        assert.deepEqual(runs.toSorted(), ["first false", "first false", "second true", "second true"]);
      }));
    });
  });
}
