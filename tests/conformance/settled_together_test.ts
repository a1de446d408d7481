import assert from "node:assert/strict";
import { NuropbCallAgain } from "@nuropb/mesh";
import type { Context } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { urls } from "../support/env.ts";
import { eventually, signal, stage } from "./stage.ts";
import { bodyOf, drain, nextLetter } from "./support_letters.ts";

/** How many turns of the microtask queue the first one ends after the others. */
const TURNS = [0, 1, 2, 3, 4, 5, 6, 7, 8];

for (const { name, url } of urls()) {
  describe(`of messages on ${name} that are settled in one turn`, () => {
    const open = stage(url);

    /** Has three commands in hand, of which the last two succeed, and the first one fails some turns later. */
    async function settle(turns: number, fail: (ctx: Context) => void) {
      const [all, end] = [signal(), signal()];
      const runs: number[] = [];
      const service = await open.service({
        work: async ({ id }: { id: number }, ctx: Context) => {
          runs.push(id);
          if (runs.length === 3) all.send();
          await end.promise;
          if (id !== 0) return;
          for (let turn = 0; turn < turns; turn++) await undefined;
          fail(ctx);
        },
      }, { concurrency: 3 });
      const mesh = await open.mesh();
      for (const id of [0, 1, 2]) await mesh.command(service.name, "work", { id });
      await all.promise;
      end.send();
      return { mesh, service: service.name, runs };
    }

    it("the one that failed goes to the dead letters, and no other", async () => {
      for (const turns of TURNS) {
        const { mesh, service } = await settle(turns, () => {
          throw new RangeError("refused");
        });
        const letters = mesh.deadLetters();
        const letter = await nextLetter(letters, service);
        assert.deepEqual(bodyOf(letter).params, { id: 0 }, `after ${turns} turns`);
        letter.discard();
        await letters.close();
        assert.deepEqual(await drain(mesh, service), []);
      }
    });

    it("the one that is to be called again is, and no other", async () => {
      for (const turns of TURNS) {
        const { mesh, service, runs } = await settle(turns, ({ redelivered }) => {
          if (!redelivered) throw new NuropbCallAgain("once more");
        });
        await eventually(() => runs.length, (length) => length === 4);
        assert.deepEqual(await drain(mesh, service), []);
        assert.deepEqual(runs, [0, 1, 2, 0], `after ${turns} turns`);
      }
    });
  });
}
