import assert from "node:assert/strict";
import type { DeadLetter, Mesh } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { uniqueName, urls } from "../support/env.ts";
import { reasonOf, stage, within } from "./stage.ts";
import { bodyOf, drain, nextLetter } from "./support_letters.ts";

for (const { name, url } of urls()) {
  describe(`readers of the dead letters on ${name}`, () => {
    const open = stage(url);

    /** A service with so many letters. */
    async function letters(count: number) {
      const target = uniqueName("service");
      const { name: service } = await open.service({
        fail() {
          throw new Error("no");
        },
        alive: () => "alive",
      }, { name: target, concurrency: 1 });
      const mesh = await open.mesh();
      await drain(mesh, service);
      for (let number = 0; number < count; number++) await mesh.command(service, "fail", { number });
      await mesh.request(service, "alive");
      return { service, mesh };
    }

    const numberOf = (letter: DeadLetter) => (bodyOf(letter)["params"] as { number: number }).number;

    it("give back what they neither replay nor discard, in the same order", async () => {
      const { service, mesh } = await letters(3);
      for (let reader = 0; reader < 3; reader++) {
        const seen: number[] = [];
        for await (const letter of mesh.deadLetters()) {
          if (letter.service !== service) continue;
          if (seen.push(numberOf(letter)) === 3) break;
        }
        assert.deepEqual(seen, [0, 1, 2]);
      }
      assert.deepEqual((await drain(mesh, service)).map(numberOf), [0, 1, 2]);
    });

    it("leave what they have not taken when they stop early, and count it no higher", async () => {
      const { service, mesh } = await letters(5);
      for await (const letter of mesh.deadLetters()) {
        if (letter.service !== service) continue;
        letter.discard();
        break;
      }
      const rest = await drain(mesh, service);
      assert.deepEqual(rest.map((letter) => [numberOf(letter), letter.count, letter.reason]), [
        [1, 1, "rejected"],
        [2, 1, "rejected"],
        [3, 1, "rejected"],
        [4, 1, "rejected"],
      ]);
    });

    for (
      const [how, end] of [
        ["an error within", () => {
          throw new Error("stop");
        }],
        ["their signal", (controller: AbortController) => controller.abort()],
        ["the end of their mesh", (_controller: AbortController, mesh: Mesh) => mesh.close()],
      ] as [string, (controller: AbortController, mesh: Mesh) => unknown][]
    ) {
      it(`give everything back when ${how} ends the loop`, async () => {
        const { service, mesh } = await letters(2);
        const reading = await open.mesh();
        const controller = new AbortController();
        let taken = 0;
        const loop = async () => {
          for await (const letter of reading.deadLetters({ signal: controller.signal })) {
            if (letter.service !== service) continue;
            taken++;
            await end(controller, reading);
          }
        };
        const reason = await within(loop().then(() => "ended", (error: unknown) => (error as Error).message));
        assert.match(reason, /^(ended|stop)$/);
        assert.ok(taken > 0);
        assert.deepEqual((await drain(mesh, service)).map(numberOf), [0, 1]);
      });
    }

    it("share them", async () => {
      const { service, mesh } = await letters(0);
      const readers = [mesh.deadLetters({ buffer: 1 }), (await open.mesh()).deadLetters({ buffer: 1 })];
      await Promise.all(readers.map(({ ready }) => ready));
      const numbers = Array.from({ length: 8 }, (_, number) => number);
      for (const number of numbers) await mesh.command(service, "fail", { number });
      const taken: [number, number][] = [];
      await within(Promise.all(readers.map(async (reader, index) => {
        for await (const letter of reader) {
          letter.discard();
          if (letter.service === service) taken.push([index, numberOf(letter)]);
          if (taken.length === numbers.length) { for (const other of readers) await other.close(); }
        }
      })));
      assert.deepEqual(taken.map(([, number]) => number).toSorted(), numbers);
      assert.deepEqual(new Set(taken.map(([index]) => index)), new Set([0, 1]));
      assert.deepEqual(await drain(mesh, service), []);
    });

    it("wait for what is still to come", async () => {
      const { service, mesh } = await letters(0);
      await using stream = mesh.deadLetters();
      await stream.ready;
      const next = nextLetter(stream, service);
      await mesh.command(service, "fail", { number: 7 });
      const letter = await within(next);
      letter.discard();
      assert.equal(numberOf(letter), 7);
    });

    it("discard a letter for good, and twice does no harm", async () => {
      const { service, mesh } = await letters(2);
      await using stream = mesh.deadLetters();
      const letter = await nextLetter(stream, service);
      letter.discard();
      letter.discard();
      await stream.close();
      assert.deepEqual((await drain(mesh, service)).map(numberOf), [1]);
    });

    it("find nothing where there is nothing, and end when they are told to", async () => {
      const mesh = await open.mesh();
      const { service } = await letters(0);
      await drain(mesh, service);
      const controller = new AbortController();
      const stream = mesh.deadLetters({ signal: controller.signal });
      await stream.ready;
      const next = stream.next();
      controller.abort();
      assert.deepEqual(await within(next), { done: true, value: undefined });
      const aborted = mesh.deadLetters({ signal: AbortSignal.abort() });
      assert.equal((await within(aborted.next())).done, true);
    });

    it("are refused a buffer that cannot be one, and a mesh that is closed", async () => {
      const mesh = await open.mesh();
      for (const buffer of [0, -1, 65_536, 1.5]) {
        const reason = await reasonOf(() => mesh.deadLetters({ buffer }));
        assert.match(String(reason), /buffer must be a whole number from 1 to 65535/);
      }
      await mesh.close();
      const reason = await reasonOf(() => within(mesh.deadLetters().next(), 1_000));
      assert.equal((reason as { code?: string }).code, "CLOSED");
    });
  });
}
