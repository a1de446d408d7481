import assert from "node:assert/strict";
import { NuropbTransportError } from "@nuropb/mesh";
import type { ConnectOptions } from "@nuropb/mesh";
import { afterAll, afterEach, describe, it } from "@std/testing/bdd";
import { eventually, failure, pass, signal, stage, take, within } from "../conformance/stage.ts";
import { uniqueName } from "../support/env.ts";
import { hasRabbitmq, startRabbitmq } from "../support/rabbitmq.ts";
import { Ledger, Load } from "./broker_load.ts";

if (await hasRabbitmq()) {
  const node = await startRabbitmq();
  const { url } = await node.createVhost("restart");

  describe("a broker under load", () => {
    const open = stage(url);
    /** How long after the broker took connections the first answer came, in ms, for each time that it was killed. */
    const recoveries: number[] = [];
    // Nothing could be closed in good order otherwise.
    afterEach(() => node.signal("SIGCONT"));
    afterAll(async () => await node[Symbol.asyncDispose]());

    /** A service and its caller under load, and a request that will never be answered. */
    async function underLoad(options: ConnectOptions = {}) {
      const ledger = new Ledger();
      const begun = signal();
      const hang = () => {
        begun.send();
        return new Promise(() => {});
      };
      const instance = { ...ledger.instance, hang };
      const service = await open.service(instance, { ...options, events: ledger.events, drainTimeout: 0 });
      const mesh = await open.mesh(options);
      const load = new Load(mesh, service.name, ledger);
      const hanging = failure(NuropbTransportError, () => mesh.request(service.name, "hang"));
      await within(begun.promise);
      return { service, mesh, load, hanging };
    }

    for (const time of ["once", "twice", "a third time"]) {
      it(`is killed and started again, ${time}: nothing confirmed is lost, and all goes on`, async () => {
        const { mesh, load, hanging } = await underLoad();
        const topic = uniqueName("topic");
        const subscription = mesh.subscribe(topic);
        await subscription.ready;
        await load.goesOn();
        await node.kill();
        assert.equal((await within(hanging)).code, "CONNECTION_LOST");
        await node.start();
        const recovery = await load.nextAnswer();
        recoveries.push(recovery);
        assert.ok(recovery <= 5_000, `It took ${recovery} ms to recover`);
        await load.goesOn();
        await mesh.publish(topic, time);
        assert.deepEqual((await take(subscription, 1)).map(({ event }) => event), [time]);
        await load.end("CONNECTION_LOST");
      });
    }

    it("has its service and callers back within two seconds, mostly", () => {
      const [, median] = recoveries.toSorted((a, b) => a - b);
      assert.ok(median !== undefined && median <= 2_000, `It took ${recoveries.join(", ")} ms to recover`);
    });

    it("is killed while a service is away: its commands and events wait for it on the disk", async () => {
      const ledger = new Ledger();
      const service = await open.service(ledger.instance, { events: ledger.events });
      const { name } = service;
      await service.close();
      const mesh = await open.mesh();
      const numbers = Array.from({ length: 200 }, (_, number) => number);
      await Promise.all(
        numbers.map((number) =>
          number % 2 === 0 ? mesh.command(name, "note", { number }) : mesh.publish(ledger.topic, number)
        ),
      );
      await node.kill();
      await node.start();
      await open.service(ledger.instance, { name, events: ledger.events });
      await eventually(() => ledger.handled.size, (size) => size === numbers.length);
    });

    it("stands still for longer than two heartbeats: that is noticed, and all goes on after it", async () => {
      const { service, mesh, load, hanging } = await underLoad({ heartbeat: 1_000 });
      await load.goesOn();
      const start = performance.now();
      node.signal("SIGSTOP");
      await Promise.all([mesh, service.mesh].map(async (mesh) => {
        await eventually(() => mesh.status.state, (state) => state !== "open");
        const silence = performance.now() - start;
        assert.ok(silence < 2_500, `It took ${silence} ms to notice`);
      }));
      assert.equal((await within(hanging)).code, "CONNECTION_LOST");
      // Attempts to connect meanwhile come to nothing, but do not harm.
      await pass(2_000);
      node.signal("SIGCONT");
      const recovery = await load.nextAnswer();
      assert.ok(recovery <= 5_000, `It took ${recovery} ms to recover`);
      await load.goesOn();
      await load.end("CONNECTION_LOST");
    });
  });
}
