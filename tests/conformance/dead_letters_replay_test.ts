import assert from "node:assert/strict";
import { NuropbMessageError, NuropbNotDeliveredError, NuropbTimeoutError } from "@nuropb/mesh";
import type { Context, DeadLetter, DeliveryStream, Mesh, ServeOptions } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { uniqueName } from "../support/env.ts";
import { eventually, failure, reasonOf, signal, stage, take, within } from "./stage.ts";
import { makeKeys } from "./support_keys.ts";
import { bodyOf, drain, nextLetter, textOf } from "./support_letters.ts";
import { deleteQueue, rawUrls } from "./support_raw.ts";

for (const { name, url } of rawUrls()) {
  describe(`a dead letter that is replayed on ${name}`, () => {
    const open = stage(url);

    /** A service that fails until it is told not to. */
    async function repairable(options: ServeOptions = {}, target = uniqueName("service"), broken = true) {
      const state = { broken };
      const runs: unknown[] = [];
      const handle = (params: unknown, { redelivered, traceId, raw }: Context) => {
        if (state.broken) throw new Error("no truck");
        runs.push({ params, redelivered, traceId, raw });
      };
      const service = await open.service({ work: handle, alive: () => "alive" }, {
        name: target,
        concurrency: 1,
        ...options,
      } as ServeOptions);
      return { state, runs, target, service, mesh: await open.mesh() };
    }

    /** A letter of a service that does not run, and has a queue. Gives the service's name. */
    async function expired(mesh: Mesh, type: "request" | "command") {
      const target = uniqueName("service");
      await (await open.service({ work() {} }, { name: target })).close();
      const options = { ttl: 50, encrypted: false };
      if (type === "command") await mesh.command(target, "work", { a: 1 }, options);
      else await failure(NuropbTimeoutError, () => mesh.request(target, "work", { a: 1 }, options));
      return target;
    }

    it("is a command that its service carries out now, with all it had, and is gone from there", async () => {
      const { state, runs, target, mesh } = await repairable();
      await mesh.command(target, "work", { a: 1 }, { traceId: "trace-1", context: { user: "Ann" } });
      await using letters = mesh.deadLetters();
      const letter = await nextLetter(letters, target);
      state.broken = false;
      assert.equal(await letter.replay(), undefined);
      await letters.close();
      assert.equal(await mesh.request(target, "alive"), "alive");
      assert.deepEqual(runs, [{
        params: { a: 1 },
        redelivered: false,
        traceId: "trace-1",
        raw: { user: "Ann" },
      }]);
      assert.deepEqual(await drain(mesh, target), []);
    });

    it("is an event that goes to the service that failed at it, and to nobody else", async () => {
      const topic = uniqueName("topic");
      const others: unknown[] = [];
      const came = signal<unknown>();
      let broken = true;
      const other = await open.service({ alive: () => "alive" }, {
        concurrency: 1,
        events: { [topic]: (event) => void others.push(event) },
      });
      const { name: target } = await open.service({ alive: () => "alive" }, {
        events: {
          [topic]: (event) => {
            if (broken) throw new Error("no");
            came.send(event);
          },
        },
      });
      const mesh = await open.mesh();
      const subscription = mesh.subscribe(topic);
      await subscription.ready;
      await mesh.publish(topic, { id: 1 });
      await using letters = mesh.deadLetters();
      const letter = await nextLetter(letters, target);
      broken = false;
      await letter.replay();
      assert.deepEqual(await within(came.promise), { id: 1 });
      await mesh.publish(topic, "after");
      assert.deepEqual((await take(subscription, 2)).map(({ event }) => event), [{ id: 1 }, "after"]);
      assert.equal(await mesh.request(other.name, "alive"), "alive");
      assert.deepEqual(others, [{ id: 1 }, "after"]);
    });

    it("is a new message to the broker: when it fails again, it is counted anew, and can be replayed again", async () => {
      const { state, runs, target, mesh } = await repairable();
      await mesh.command(target, "work", { a: 1 });
      await using letters = mesh.deadLetters();
      let sent: Uint8Array | undefined;
      let id: string | null | undefined;
      for (let replays = 0; replays < 3; replays++) {
        const letter = await nextLetter(letters, target);
        assert.deepEqual([letter.type, letter.reason, letter.count], ["command", "rejected", 1]);
        sent ??= letter.message.body;
        id ??= letter.message.correlationId;
        assert.deepEqual(letter.message.body, sent);
        assert.equal(letter.message.correlationId, id);
        state.broken = replays < 2;
        await letter.replay();
      }
      await eventually(() => runs.length, (length) => length === 1);
      await letters.close();
      assert.deepEqual(await drain(mesh, target), []);
    });

    it("waits in the queue of its service for an instance, without its old time to live", async () => {
      const mesh = await open.mesh();
      const target = await expired(mesh, "command");
      await using letters = mesh.deadLetters();
      const letter = await nextLetter(letters, target);
      await letter.replay();
      await letters.close();
      // As long as it lived before.
      await new Promise((resolve) => setTimeout(resolve, 100));
      const { runs } = await repairable({}, target, false);
      await eventually(() => runs.length, (length) => length === 1);
      assert.deepEqual((runs[0] as { params: unknown }).params, { a: 1 });
    });

    it("may be a request: it runs, though its caller waits no more", async () => {
      const mesh = await open.mesh();
      const target = await expired(mesh, "request");
      const { runs } = await repairable({}, target, false);
      await using letters = mesh.deadLetters();
      await (await nextLetter(letters, target)).replay();
      await letters.close();
      await eventually(() => runs.length, (length) => length === 1);
      assert.equal(await mesh.request(target, "alive"), "alive");
      assert.deepEqual(await drain(mesh, target), []);
    });

    it("stays encrypted, and the service opens it", async () => {
      const { state, runs, target, mesh } = await repairable({
        privateKey: makeKeys().privatePem,
        methods: { work: { encrypted: true } },
      } as ServeOptions);
      await mesh.command(target, "work", { secret: 1 });
      await using letters = mesh.deadLetters();
      const letter = await nextLetter(letters, target);
      assert.doesNotMatch(textOf(letter), /[{"]/);
      state.broken = false;
      await letter.replay();
      await eventually(() => runs.length, (length) => length === 1);
      assert.deepEqual((runs[0] as { params: unknown }).params, { secret: 1 });
    });

    for (const type of ["command", "request"] as const) {
      it(`fails when the queue of its service is no more, and stays: a ${type}`, async () => {
        const mesh = await open.mesh();
        const target = await expired(mesh, type);
        let letters = mesh.deadLetters();
        const letter = await nextLetter(letters, target);
        await deleteQueue(url, target);
        await failure(NuropbNotDeliveredError, () => letter.replay());
        await letters.close();
        letters = mesh.deadLetters();
        const still = await nextLetter(letters, target);
        assert.deepEqual([still.type, bodyOf(still)["params"]], [type, { a: 1 }]);
        const { runs } = await repairable({}, target, false);
        await still.replay();
        await eventually(() => runs.length, (length) => length === 1);
        await letters.close();
      });
    }

    it("fails for the service whose queue is no more, and not for another one of the same event", async () => {
      const topic = uniqueName("topic");
      let broken = true;
      const runs: string[] = [];
      const listening = (target: string) =>
        open.service({ alive: () => "alive" }, {
          name: target,
          concurrency: 1,
          events: {
            [topic]: () => {
              if (broken) throw new Error("no");
              runs.push(target);
            },
          },
        });
      const [here, gone] = [uniqueName("here"), uniqueName("gone")];
      await listening(here);
      const leaving = await listening(gone);
      const mesh = await open.mesh();
      await using letters = mesh.deadLetters();
      await letters.ready;
      await mesh.publish(topic, { id: 1 });
      const both = new Map<string, DeadLetter>();
      while (both.size < 2) {
        const { value: letter } = await within(letters.next());
        if (letter?.service === here || letter?.service === gone) both.set(letter.service, letter);
        else letter?.discard();
      }
      await leaving.close();
      await deleteQueue(url, gone);
      broken = false;
      const outcomes = await Promise.allSettled([both.get(here)!.replay(), both.get(gone)!.replay()]);
      assert.deepEqual(outcomes.map(({ status }) => status), ["fulfilled", "rejected"]);
      assert.ok((outcomes[1] as PromiseRejectedResult).reason instanceof NuropbNotDeliveredError);
      assert.equal(await mesh.request(here, "alive"), "alive");
      assert.deepEqual(runs, [here]);
      both.get(gone)!.discard();
    });

    it("is sent once, however often it is replayed", async () => {
      const { state, runs, target, mesh } = await repairable();
      await mesh.command(target, "work", { a: 1 });
      await using letters = mesh.deadLetters();
      const letter = await nextLetter(letters, target);
      state.broken = false;
      await Promise.allSettled([letter.replay(), letter.replay()]);
      await letter.replay().catch(() => {});
      assert.equal(await mesh.request(target, "alive"), "alive");
      assert.equal(runs.length, 1);
    });

    it("is not sent once it was discarded", async () => {
      const { state, runs, target, mesh } = await repairable();
      await mesh.command(target, "work", { a: 1 });
      await using letters = mesh.deadLetters();
      const letter = await nextLetter(letters, target);
      state.broken = false;
      letter.discard();
      await letter.replay().catch(() => {});
      assert.equal(await mesh.request(target, "alive"), "alive");
      assert.deepEqual(runs, []);
    });

    const endings: [string, (letters: DeliveryStream<DeadLetter>, reading: Mesh) => Promise<unknown>][] = [
      ["its loop was left", (letters) => letters.close()],
      ["its mesh was closed", (_letters, reading) => reading.close()],
    ];
    for (const [what, end] of endings) {
      it(`is not sent after ${what}, when it is the broker's again, and says so`, async () => {
        const { state, runs, target, mesh } = await repairable();
        await mesh.command(target, "work", { a: 1 });
        const reading = await open.mesh();
        const letters = reading.deadLetters();
        await letters.ready;
        const letter = await nextLetter(letters, target);
        await end(letters, reading);
        state.broken = false;
        await reasonOf(() => letter.replay());
        assert.equal(await mesh.request(target, "alive"), "alive");
        assert.deepEqual(runs, []);
        assert.equal((await drain(mesh, target)).length, 1);
      });
    }

    it("is not sent without its body by a reader who cannot take the whole of it in", async () => {
      const { state, runs, target, mesh } = await repairable();
      await mesh.command(target, "work", { big: "x".repeat(20_000) });
      const small = await open.mesh({ maxMessageSize: 10_000 });
      const letters = small.deadLetters();
      const letter = await nextLetter(letters, target);
      state.broken = false;
      const error = await failure(NuropbMessageError, () => letter.replay());
      assert.equal(error.code, "MESSAGE_TOO_LARGE");
      await letters.close();
      const whole = mesh.deadLetters();
      await (await nextLetter(whole, target)).replay();
      await whole.close();
      await eventually(() => runs.length, (length) => length === 1);
      assert.equal(JSON.stringify(runs[0]).length > 20_000, true);
    });
  });
}
