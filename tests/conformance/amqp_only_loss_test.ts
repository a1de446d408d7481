import assert from "node:assert/strict";
import { connect, NuropbTransportError } from "@nuropb/mesh";
import type { ConnectOptions, Context, Mesh } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { managementUrl, rabbitmqUrl, uniqueName } from "../support/env.ts";
import { relay } from "./listener.ts";
import { Management, vhostOf } from "./management.ts";
import { closing, eventually, failure, signal, stage, take, within } from "./stage.ts";

const url = rabbitmqUrl();
const api = managementUrl();

/** Resolves when a mesh has been through these states. */
function states(mesh: Mesh, ...wanted: string[]): Promise<void> {
  return within(
    new Promise<void>((resolve) => {
      mesh.addEventListener("status", ({ detail }) => {
        if (detail.state === wanted[0]) wanted.shift();
        if (wanted.length === 0) resolve();
      });
    }),
    10_000,
  );
}

if (url !== undefined) {
  describe("a connection to RabbitMQ that is lost", () => {
    const open = stage(url);
    const opening = closing();

    /** A mesh whose connection can be cut. */
    async function connected(options?: ConnectOptions) {
      const line = await opening(relay(url!));
      const mesh = await opening(connect(line.url, options));
      return { mesh, line };
    }

    it("fails the requests that have no answer, at once, and comes back", async () => {
      const [begun, end] = [signal(), signal()];
      const service = await open.service({
        hang: () => {
          begun.send();
          return end.promise;
        },
        quick: () => "quick",
      });
      const { mesh, line } = await connected();
      const lost = failure(
        NuropbTransportError,
        () => mesh.request(service.name, "hang", {}, { ttl: 60_000 }),
      );
      await within(begun.promise);
      const back = states(mesh, "waiting", "connecting", "open");
      line.cut();
      const error = await within(lost);
      assert.equal(error.code, "CONNECTION_LOST");
      assert.ok(error.message.includes(`${service.name}.hang`), error.message);
      await back;
      assert.equal(await mesh.request(service.name, "quick"), "quick");
      end.send();
    });

    it("is noticed when it only falls silent", async () => {
      const service = await open.service({ hang: () => new Promise(() => {}) }, { drainTimeout: 0 });
      const { mesh, line } = await connected({ heartbeat: 1_000 });
      await mesh.describe(service.name);
      const lost = failure(
        NuropbTransportError,
        () => mesh.request(service.name, "hang", {}, { ttl: 60_000 }),
      );
      line.freeze();
      assert.equal((await within(lost)).code, "CONNECTION_LOST");
    });

    it("stays while both sides are only idle", async () => {
      const { mesh } = await connected({ heartbeat: 1_000 });
      const changes: string[] = [];
      mesh.addEventListener("status", ({ detail }) => changes.push(detail.state));
      await new Promise((resolve) => setTimeout(resolve, 3_000));
      assert.deepEqual(changes, []);
    });

    it("holds back what is sent meanwhile, until it is back", async () => {
      const topic = uniqueName("topic");
      const got: unknown[] = [];
      const both = signal();
      const take = (payload: unknown) => {
        if (got.push(payload) === 2) both.send();
      };
      const service = await open.service({
        work: ({ number }: { number: number }) => number,
        note: take,
      }, { events: { [topic]: take } });
      const { mesh, line } = await connected();
      await mesh.describe(service.name);
      const waiting = states(mesh, "waiting");
      line.cut();
      await waiting;
      const answers = [1, 2, 3].map((number) =>
        mesh.request(service.name, "work", { number }, { ttl: 20_000 })
      );
      await mesh.command(service.name, "note", { command: true });
      await mesh.publish(topic, { event: true });
      assert.deepEqual(await within(Promise.all(answers)), [1, 2, 3]);
      await within(both.promise);
      assert.deepEqual(got, [{ command: true }, { event: true }]);
    });

    it("confirms or fails everything that is under way, and kills no process", async () => {
      const service = await open.service({ work: ({ number }: { number: number }) => number });
      const { mesh, line } = await connected();
      await mesh.describe(service.name);
      const numbers = Array.from({ length: 200 }, (_, number) => number);
      const answers = Promise.allSettled(
        numbers.map((number) => mesh.request(service.name, "work", { number })),
      );
      const told = Promise.allSettled(numbers.flatMap((number) => [
        mesh.command(service.name, "work", { number }),
        mesh.publish(uniqueName("topic"), number),
      ]));
      await new Promise((resolve) => setTimeout(resolve, 1));
      line.cut();
      for (const [number, outcome] of (await within(answers, 10_000)).entries()) {
        if (outcome.status === "fulfilled") assert.equal(outcome.value, number);
        else assert.equal((outcome.reason as NuropbTransportError).code, "CONNECTION_LOST");
      }
      for (const outcome of await within(told, 10_000)) assert.equal(outcome.status, "fulfilled");
    });

    it("gives the work of a service to the next one, or to itself again", async () => {
      const [begun, end] = [signal(), signal()];
      const redelivered: boolean[] = [];
      const { mesh: shared, line } = await connected();
      const service = await open.service({
        async work(_params: unknown, ctx: Context) {
          redelivered.push(ctx.redelivered);
          if (ctx.redelivered) return "again";
          begun.send();
          await end.promise;
          return "lost";
        },
      }, { mesh: shared });
      const mesh = await open.mesh();
      const answer = mesh.request(service.name, "work", {}, { ttl: 20_000 });
      await within(begun.promise);
      line.cut();
      assert.equal(await within(answer, 10_000), "again");
      assert.deepEqual(redelivered, [false, true]);
      end.send();
    });

    it("goes on with subscriptions and services, each time", async () => {
      const { mesh, line } = await connected();
      const service = await open.service({ work: () => "done" }, { mesh });
      const topic = uniqueName("topic");
      const subscription = mesh.subscribe(topic);
      await subscription.ready;
      for (let turn = 0; turn < 3; turn++) {
        const back = states(mesh, "waiting", "open");
        line.cut();
        await back;
        assert.equal(await mesh.request(service.name, "work"), "done");
        await mesh.publish(topic, turn);
        assert.deepEqual((await take(subscription, 1)).map(({ event }) => event), [turn]);
      }
    });

    it("can be closed while it is away, which fails what waits", async () => {
      const { mesh, line } = await connected();
      const subscription = mesh.subscribe(uniqueName("topic"));
      await subscription.ready;
      const waiting = states(mesh, "waiting");
      line.cut();
      await waiting;
      const outcomes = [
        mesh.request("service", "work", {}, { ttl: 60_000 }),
        mesh.command("service", "work"),
        mesh.publish("topic", 1),
        mesh.ready(),
      ].map((operation) => failure(NuropbTransportError, () => operation));
      await mesh.close();
      for (const error of await within(Promise.all(outcomes))) assert.equal(error.code, "CLOSED");
      assert.equal(mesh.status.state, "closed");
    });

    it("ends at its deadline what waits for it to come back", async () => {
      const { mesh, line } = await connected({ confirmTimeout: 200 });
      const waiting = states(mesh, "waiting");
      await line.close();
      await waiting;
      const outcomes = [
        () => mesh.request("service", "work", {}, { ttl: 200 }),
        () => mesh.command("service", "work"),
        () => mesh.publish("topic", 1),
      ].map((operation) => within(Promise.resolve(operation()).catch((error: Error) => error.name)));
      assert.deepEqual(await Promise.all(outcomes), Array.from({ length: 3 }, () => "NuropbTimeoutError"));
      const aborted = mesh.request("service", "work", {}, { signal: AbortSignal.timeout(50) });
      assert.equal((await within(aborted.catch((error: Error) => error)) as Error).name, "TimeoutError");
    });
  });
}

if (url !== undefined && api !== undefined) {
  const management = new Management(api, vhostOf(url));

  describe("a queue that is deleted under a service", () => {
    const open = stage(url);

    it("is declared and taken from again, while the connection stays", async () => {
      const service = await open.service({ work: () => "done" });
      const mesh = await open.mesh();
      assert.equal(await mesh.request(service.name, "work"), "done");
      await management.call("DELETE", management.path("queues", `nuropb-${service.name}-sq`));
      const ask = () => mesh.request(service.name, "work", {}, { ttl: 1_000 }).catch(() => "not yet");
      await eventually(ask, (answer) => answer === "done");
      assert.equal(service.mesh.status.state, "open");
    });
  });
}
