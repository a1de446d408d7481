import assert from "node:assert/strict";
import { NuropbTimeoutError, NuropbTransportError } from "@nuropb/mesh";
import type { ConnectOptions, Mesh } from "@nuropb/mesh";
import { afterAll, afterEach, describe, it } from "@std/testing/bdd";
import { eventually, failure, pass, stage, within } from "../conformance/stage.ts";
import { hasRabbitmq, startRabbitmq } from "../support/rabbitmq.ts";
import { Ledger, Load } from "./broker_load.ts";

/** How long what must wait is watched, in ms. */
const WATCHED = 300;
const VHOST = "alarm";

if (await hasRabbitmq()) {
  const node = await startRabbitmq();
  const { url } = await node.createVhost(VHOST);
  let alarmed = false;

  describe("a broker with a memory alarm", () => {
    async function setAlarm(): Promise<void> {
      alarmed = true;
      await node.control("set_vm_memory_high_watermark", "absolute", "1");
    }

    async function clearAlarm(): Promise<void> {
      await node.control("set_vm_memory_high_watermark", "absolute", "1GB");
      alarmed = false;
    }

    /** The broker's reason while it takes no messages. */
    function blocked({ status }: Mesh): string | undefined {
      return status.state === "open" ? status.blocked : undefined;
    }

    /** Sets the alarm, and sends a command: only to those who send does the broker tell it. Gives that command. */
    async function block(mesh: Mesh, service: string): Promise<{ first: Promise<void> }> {
      await setAlarm();
      const first = kept(mesh.command(service, "note", { number: 0 }));
      await eventually(() => blocked(mesh), (reason) => reason !== undefined);
      return { first };
    }

    /** For what may fail before it is awaited. */
    function kept<Value>(operation: Promise<Value>): Promise<Value> {
      operation.catch(() => {});
      return operation;
    }

    /** Fails if one of these is settled, or settles soon. */
    async function areWaiting(operations: readonly Promise<unknown>[]): Promise<void> {
      const settled = operations.map((operation) => operation.then(() => "settled", () => "settled"));
      assert.equal(await Promise.race([...settled, pass(WATCHED)]), undefined);
    }

    afterEach(async () => {
      if (alarmed) await clearAlarm();
    });
    const open = stage(url);
    afterAll(async () => await node[Symbol.asyncDispose]());

    /** A service and its caller, who knows what the service says of itself. */
    async function pair(options: ConnectOptions = {}) {
      const ledger = new Ledger();
      const service = await open.service(ledger.instance, { events: ledger.events, drainTimeout: 0 });
      const mesh = await open.mesh(options);
      await mesh.describe(service.name);
      return { ledger, service, mesh };
    }

    it("holds everything back without losing anything, and so does the next alarm", async () => {
      const { ledger, service, mesh } = await pair();
      const load = new Load(mesh, service.name, ledger);
      for (let alarm = 0; alarm < 2; alarm++) {
        await load.goesOn();
        await setAlarm();
        assert.match((await eventually(() => blocked(mesh), (reason) => reason !== undefined))!, /memory/);
        const number = -1 - alarm;
        const waiting = [
          mesh.request(service.name, "work", { number }),
          mesh.command(service.name, "note", { number }),
          mesh.publish(ledger.topic, number),
        ];
        await areWaiting(waiting);
        await clearAlarm();
        assert.deepEqual(await within(Promise.all(waiting)), [number, undefined, undefined]);
        assert.equal(blocked(mesh), undefined);
        await eventually(() => ledger.handled.get(number), (count) => count === 2);
      }
      await load.goesOn();
      await load.end();
      assert.deepEqual([blocked(mesh), blocked(service.mesh)], [undefined, undefined]);
    });

    it("keeps nobody past a deadline or a signal", async () => {
      const { ledger, service, mesh } = await pair({ confirmTimeout: 500 });
      const { first } = await block(mesh, service.name);
      const calls = [
        first,
        mesh.request(service.name, "work", { number: 1 }, { ttl: 300 }),
        mesh.command(service.name, "note", { number: 2 }),
        mesh.publish(ledger.topic, 3),
      ].map((call) => failure(NuropbTimeoutError, () => call));
      const controller = new AbortController();
      const aborted = mesh.command(service.name, "note", { number: 4 }, { signal: controller.signal });
      controller.abort(new Error("enough"));
      await assert.rejects(aborted, { message: "enough" });
      await within(Promise.all(calls));
      await clearAlarm();
      // What was given up is not sent afterwards; of the first one nobody knows.
      await mesh.command(service.name, "note", { number: 5 });
      await eventually(() => ledger.handled.has(5), (handled) => handled);
      assert.deepEqual([2, 3, 4].filter((number) => ledger.handled.has(number)), []);
    });

    it("does not keep meshes and services from being closed, within a few seconds", async () => {
      const { ledger, service, mesh } = await pair();
      await service.mesh.describe(service.name);
      const { first } = await block(mesh, service.name);
      // Whoever sends is told: so is the service then.
      const own = kept(service.mesh.command(service.name, "note", { number: 1 }));
      await eventually(() => blocked(service.mesh), (reason) => reason !== undefined);
      const failures = [
        first,
        own,
        mesh.publish(ledger.topic, 2),
        mesh.request(service.name, "work", { number: 3 }),
      ]
        .map((call) => failure(NuropbTransportError, () => call));
      const start = performance.now();
      await within(Promise.all([mesh.close(), service.close()]), 10_000);
      const duration = performance.now() - start;
      assert.ok(duration < 5_000, `It took ${duration} ms to close`);
      for (const { code } of await within(Promise.all(failures))) assert.equal(code, "CLOSED");
    });

    it("holds back what waits, over a new connection too, no longer than it lasts", async () => {
      const { ledger, service, mesh } = await pair();
      const { first } = await block(mesh, service.name);
      const send = (number: number) =>
        kept(Promise.all([
          mesh.request(service.name, "work", { number }),
          mesh.command(service.name, "note", { number }),
          mesh.publish(ledger.topic, number),
        ]));
      const before = send(1);
      const states: string[] = [];
      mesh.addEventListener("status", ({ detail }) => states.push(detail.state));
      await node.control("close_all_connections", "--vhost", VHOST, "closed by the operator");
      await eventually(() => states, (states) => states.includes("open"));
      const after = send(2);
      await areWaiting([first, before, after]);
      await clearAlarm();
      assert.deepEqual(await within(before), [1, undefined, undefined]);
      assert.deepEqual(await within(after), [2, undefined, undefined]);
      await within(first);
      assert.equal(blocked(mesh), undefined);
      await eventually(
        () => [1, 2].map((number) => ledger.handled.get(number)),
        (counts) => counts.every((count) => count === 2),
      );
    });
  });
}
