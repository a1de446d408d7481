import assert from "node:assert/strict";
import { NuropbCallAgain, NuropbException, NuropbTransportError } from "@nuropb/mesh";
import type { Context, Mesh, ServeOptions } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { uniqueName, urls } from "../support/env.ts";
import { failure, stage, take, within } from "./stage.ts";
import { makeKeys } from "./support_keys.ts";
import { bodyOf, drain } from "./support_letters.ts";
import { Log } from "./support_log.ts";

/** With it a service can have one event confirmed at a time: two from one method are one too many. */
const oneAtATime = { maxPending: 1 };

for (const { name, url } of urls()) {
  describe(`a method whose events cannot be confirmed on ${name}`, () => {
    const open = stage(url);

    /** A service that emits as many events as it is told, on its first and on its second run. */
    async function emitting(first: number, second: number, options: ServeOptions = {}) {
      const topic = uniqueName("topic");
      const trigger = uniqueName("trigger");
      const runs: boolean[] = [];
      const log = new Log();
      const work = (_params: unknown, ctx: Context) => {
        const { redelivered } = ctx;
        runs.push(redelivered);
        for (let number = redelivered ? second : first; number > 0; number--) {
          ctx.emit(topic, { number, redelivered });
        }
        return "done";
      };
      const { name: service } = await open.service({ work, alive: () => "alive" }, {
        ...oneAtATime,
        concurrency: 1,
        logger: log,
        events: { [trigger]: work },
        ...options,
      } as ServeOptions);
      const mesh = await open.mesh();
      const subscription = mesh.subscribe(topic);
      await subscription.ready;
      /** The events until now. */
      const emitted = async () => {
        await mesh.publish(topic, "end");
        const events: unknown[] = [];
        for (;;) {
          const [message] = await take(subscription, 1);
          if (message?.event === "end") return events;
          events.push(message?.event);
        }
      };
      return { service, topic, trigger, runs, log, mesh, emitted };
    }

    it("is run once more, and only then has its request answered", async () => {
      const { service, runs, mesh, emitted } = await emitting(2, 1);
      const { result, error } = await mesh.requestRaw(service, "work");
      assert.deepEqual([result, error], ["done", null]);
      assert.deepEqual(runs, [false, true]);
      assert.deepEqual((await emitted()).at(-1), { number: 1, redelivered: true });
      assert.deepEqual(await drain(mesh, service), []);
    });

    it("has its request fail when that does not help, and put to the dead letters, once", async () => {
      const { service, runs, mesh } = await emitting(2, 2);
      const error = await failure(NuropbTransportError, () => mesh.request(service, "work", { a: 1 }));
      assert.match(error.message, /^The events of the method could not be published: /);
      assert.equal(error.remote?.name, "NuropbTransportError");
      assert.deepEqual(runs, [false, true]);
      const letters = await drain(mesh, service);
      assert.deepEqual(letters.map(({ type, reason, count }) => [type, reason, count]), [[
        "request",
        "rejected",
        1,
      ]]);
      assert.deepEqual(bodyOf(letters[0]!)["params"], { a: 1 });
      assert.equal(await mesh.request(service, "alive"), "alive");
    });

    it("is run once more by a command, which then is done with", async () => {
      const { service, runs, mesh, emitted } = await emitting(2, 1);
      await mesh.command(service, "work");
      assert.deepEqual(await drain(mesh, service), []);
      assert.deepEqual(runs, [false, true]);
      assert.deepEqual((await emitted()).at(-1), { number: 1, redelivered: true });
    });

    it("is run once more by a command, which goes to the dead letters when that does not help", async () => {
      const { service, runs, mesh, log } = await emitting(2, 2);
      await mesh.command(service, "work");
      const letters = await drain(mesh, service);
      assert.deepEqual(letters.map(({ type, reason, count }) => [type, reason, count]), [[
        "command",
        "rejected",
        1,
      ]]);
      assert.deepEqual(runs, [false, true]);
      assert.match(log.text(), /The events of the method could not be published/);
    });

    it("may be the handler of an event, which goes the same way", async () => {
      const { service, trigger, runs, mesh } = await emitting(2, 2);
      await mesh.publish(trigger, { id: 1 });
      await mesh.request(service, "alive");
      const letters = await drain(mesh, service);
      assert.deepEqual(letters.map(({ type, reason, count }) => [type, reason, count]), [[
        "event",
        "rejected",
        1,
      ]]);
      assert.deepEqual(runs, [false, true]);
    });

    it("has an encrypted request fail as any other, and its letter stays encrypted", async () => {
      const { service, runs, mesh } = await emitting(2, 2, {
        privateKey: makeKeys().privatePem,
        methods: { work: { encrypted: true } },
      } as ServeOptions);
      const error = await failure(NuropbTransportError, () => mesh.request(service, "work"));
      assert.match(error.message, /^The events of the method could not be published: /);
      assert.deepEqual(runs, [false, true]);
      const letters = await drain(mesh, service);
      assert.deepEqual(letters.map(({ type, message }) => [type, message.headers["encrypted"]]), [[
        "request",
        "yes",
      ]]);
    });

    it("is not run a third time for asking to be called again besides", async () => {
      const topic = uniqueName("topic");
      const runs: boolean[] = [];
      const service = await open.service({
        work(_params: unknown, ctx: Context) {
          runs.push(ctx.redelivered);
          if (ctx.redelivered) throw new NuropbCallAgain();
          ctx.emit(topic, 1);
          ctx.emit(topic, 2);
        },
      }, oneAtATime);
      const { error } = await (await open.mesh()).requestRaw(service.name, "work");
      assert.equal(error?.error, "NuropbCallAgainReject");
      assert.deepEqual(runs, [false, true]);
    });

    it("has nothing to confirm when it throws: its error is answered, and it is not run again", async () => {
      const topic = uniqueName("topic");
      let runs = 0;
      const { name: service } = await open.service({
        work(_params: unknown, ctx: Context) {
          runs++;
          ctx.emit(topic, 1);
          ctx.emit(topic, 2);
          throw new RangeError("too far");
        },
      }, { ...oneAtATime, concurrency: 1 });
      const mesh = await open.mesh();
      const error = await failure(NuropbException, () => mesh.request(service, "work"));
      assert.deepEqual(error.remote, { name: "RangeError", description: "too far" });
      assert.deepEqual(await drain(mesh, service), []);
      assert.equal(runs, 1);
    });
  });

  describe(`a method's events on ${name}`, () => {
    const open = stage(url);

    it("are with the broker before the answer is with the caller, each time", async () => {
      const topic = uniqueName("topic");
      const service = await open.service({
        work({ number }: { number: number }, ctx: Context) {
          ctx.emit(`${topic}.a`, number);
          ctx.emit(`${topic}.b`, number);
          return number;
        },
      });
      const [caller, listener] = [await open.mesh(), await open.mesh()];
      const subscription = listener.subscribe(`${topic}.#`);
      await subscription.ready;
      for (let number = 0; number < 20; number++) {
        await caller.request(service.name, "work", { number });
        // Whatever the caller publishes after the answer comes after the events.
        await caller.publish(`${topic}.answered`, number);
      }
      const order = (await take(subscription, 60)).map((
        { topic: of, event },
      ) => [of.slice(topic.length + 1), event]);
      const expected = Array.from(
        { length: 20 },
        (_, number) => [["a", number], ["b", number], ["answered", number]],
      );
      assert.deepEqual(order, expected.flat());
    });

    it("are refused within the method when they are too large, so that it can still go another way", async () => {
      const topic = uniqueName("topic");
      const service = await open.service({
        work(_params: unknown, ctx: Context) {
          try {
            ctx.emit(topic, "x".repeat(20_000));
          } catch (error) {
            ctx.emit(topic, (error as NuropbException).code);
          }
          return "done";
        },
      }, { maxMessageSize: 10_000 });
      const mesh: Mesh = await open.mesh();
      const subscription = mesh.subscribe(topic);
      await subscription.ready;
      assert.equal(await mesh.request(service.name, "work"), "done");
      assert.equal((await within(subscription.next())).value?.event, "MESSAGE_TOO_LARGE");
    });
  });
}
