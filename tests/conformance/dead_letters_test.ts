import assert from "node:assert/strict";
import { NuropbTimeoutError } from "@nuropb/mesh";
import type { DeadLetter, Mesh } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { uniqueName, urls } from "../support/env.ts";
import { failure, stage, within } from "./stage.ts";
import { makeKeys } from "./support_keys.ts";
import { bodyOf, drain, nextLetter, textOf } from "./support_letters.ts";

/** A letter without what it can do, and without its time, which is looked at by itself. */
function facts({ service, type, reason, count, message }: DeadLetter) {
  const { exchange, routingKey, correlationId } = message;
  return { service, type, reason, count, exchange, routingKey, correlationId };
}

const flush = (mesh: Mesh, service: string) => mesh.requestRaw(service, "alive");

for (const { name, url } of urls()) {
  describe(`in the dead letters on ${name} is`, () => {
    const open = stage(url);

    /** A service that fails at everything. */
    async function failing(target = uniqueName("service")) {
      const topic = uniqueName("topic");
      const fail = () => {
        throw new Error("no truck");
      };
      const service = await open.service({ fail, alive: () => "alive" }, {
        name: target,
        concurrency: 1,
        events: { [`${topic}.*`]: fail },
      });
      return { service, target, topic, mesh: await open.mesh() };
    }

    /** A service that has a queue, and does not run. */
    async function away() {
      const { service, target } = await failing();
      const mesh = await open.mesh();
      await mesh.describe(target);
      await service.close();
      return { target, mesh };
    }

    it("a command that failed, once, as it was sent", async () => {
      const { target, mesh } = await failing();
      const before = Date.now();
      const context = { user: "ü" };
      await mesh.command(target, "fail", { order: 1 }, { context, traceId: "trace-1", ttl: 60_000 });
      const letters = await drain(mesh, target);
      assert.equal(letters.length, 1);
      const [letter] = letters as [DeadLetter];
      const { correlation_id: id, ...body } = bodyOf(letter);
      assert.deepEqual(facts(letter), {
        service: target,
        type: "command",
        reason: "rejected",
        count: 1,
        exchange: "nuropb-rpc-exchange",
        routingKey: target,
        correlationId: id,
      });
      assert.deepEqual(body, {
        tag: "command",
        service: target,
        method: "fail",
        params: { order: 1 },
        context,
        trace_id: "trace-1",
      });
      assert.deepEqual(Object.keys(letter.message.headers).toSorted(), [
        "encrypted",
        "nuropb_protocol",
        "nuropb_type",
        "nuropb_version",
        "trace_id",
      ]);
      assert.deepEqual([letter.message.headers["nuropb_type"], letter.message.headers["trace_id"]], [
        "command",
        "trace-1",
      ]);
      // RabbitMQ tells whole seconds.
      assert.ok(letter.time.getTime() > before - 1_500 && letter.time.getTime() < Date.now() + 1_500);
    });

    it("an event that its handler failed at, once, under its topic", async () => {
      const { target, topic, mesh } = await failing();
      await mesh.publish(`${topic}.created`, { order: 1 }, { target: ["billing"] });
      await flush(mesh, target);
      const letters = await drain(mesh, target);
      assert.deepEqual(letters.map(facts), [{
        service: target,
        type: "event",
        reason: "rejected",
        count: 1,
        exchange: "nuropb-events-exchange",
        routingKey: `${topic}.created`,
        correlationId: letters[0]?.message.correlationId,
      }]);
      const { topic: of, event, target: whom } = bodyOf(letters[0]!);
      assert.deepEqual([of, event, whom], [`${topic}.created`, { order: 1 }, ["billing"]]);
    });

    it("an event once for each service that failed at it, and not for the one that did not", async () => {
      const topic = uniqueName("topic");
      const handle = (works: boolean) => () => {
        if (!works) throw new Error("no");
      };
      const services = await Promise.all(
        [false, true, false].map((works) =>
          open.service({ alive: () => "alive" }, { concurrency: 1, events: { [topic]: handle(works) } })
        ),
      );
      const mesh = await open.mesh();
      await using stream = mesh.deadLetters();
      await stream.ready;
      await mesh.publish(topic, { id: 1 });
      const expected = [services[0]!.name, services[2]!.name];
      const came: (string | null)[] = [];
      while (came.length < 2) {
        const { value } = await within(stream.next());
        value?.discard();
        if (expected.includes(value?.service ?? "")) came.push(value!.service);
      }
      assert.deepEqual(came.toSorted(), expected.toSorted());
      await stream.close();
      for (const { name: service } of services) assert.deepEqual(await drain(mesh, service), []);
    });

    it("a command of a method that is unknown, or whose params are not valid", async () => {
      const schema = {
        "~standard": {
          version: 1 as const,
          vendor: "test",
          validate: () => ({ issues: [{ message: "never" }] }),
        },
      };
      const { name: target } = await open.service({ work: (_params: unknown) => 1, alive: () => "alive" }, {
        concurrency: 1,
        methods: { work: { params: schema } },
      });
      const mesh = await open.mesh();
      await mesh.command(target, "missing");
      await mesh.command(target, "work");
      const letters = await drain(mesh, target);
      assert.deepEqual(letters.map((letter) => [bodyOf(letter)["method"], letter.reason]), [
        ["missing", "rejected"],
        ["work", "rejected"],
      ]);
    });

    it("not a request that failed, since its caller knows", async () => {
      const { target, mesh } = await failing();
      for (const method of ["fail", "missing"]) {
        assert.notEqual((await mesh.requestRaw(target, method)).error, null);
      }
      assert.deepEqual(await drain(mesh, target), []);
    });

    it("not what succeeded", async () => {
      const { target, mesh } = await failing();
      await mesh.command(target, "alive");
      await mesh.publish(uniqueName("topic"), 1);
      assert.deepEqual(await drain(mesh, target), []);
    });

    it("a request that expired while no instance ran, once", async () => {
      const { target, mesh } = await away();
      await failure(NuropbTimeoutError, () => mesh.request(target, "alive", { order: 1 }, { ttl: 50 }));
      await failing(target);
      const letters = await drain(mesh, target);
      assert.deepEqual(letters.map(facts), [{
        service: target,
        type: "request",
        reason: "expired",
        count: 1,
        exchange: "nuropb-rpc-exchange",
        routingKey: target,
        correlationId: bodyOf(letters[0]!)["correlation_id"],
      }]);
      assert.deepEqual(bodyOf(letters[0]!)["params"], { order: 1 });
    });

    it("a command that expired while no instance ran, once, and by itself", async () => {
      const { target, mesh } = await away();
      await mesh.command(target, "alive", { order: 1 }, { ttl: 50 });
      await using letters = mesh.deadLetters();
      const letter = await nextLetter(letters, target);
      assert.deepEqual([letter.type, letter.reason, letter.count], ["command", "expired", 1]);
      letter.discard();
      await letters.close();
      await failing(target);
      assert.deepEqual(await drain(mesh, target), []);
    });

    it("what is encrypted, as it was encrypted", async () => {
      const fail = () => {
        throw new Error("no");
      };
      const { name: target } = await open.service({ fail }, {
        concurrency: 1,
        privateKey: makeKeys().privatePem,
        methods: { fail: { encrypted: true } },
      });
      const mesh = await open.mesh();
      await mesh.command(target, "fail", { secret: "the launch code" });
      const [letter, ...others] = await drain(mesh, target);
      assert.deepEqual(others, []);
      assert.equal(letter?.message.headers["encrypted"], "yes");
      assert.match(textOf(letter), /^[\w+/]+=*\.[\w+/]+=*$/);
    });
  });
}
