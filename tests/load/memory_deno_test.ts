import assert from "node:assert/strict";
import { describe, it } from "@std/testing/bdd";
import { rabbitmqUrl, script } from "../support/env.ts";
import { measureGrowth } from "./memory_growth.ts";
import type { MemoryOfBoth } from "./memory_growth.ts";
import { roles } from "./memory_program.ts";

const url = rabbitmqUrl();
/** Requests before each measurement. The full run, of a million, is `memory_script.ts`. */
const STEPS = [50_000, 50_000, 50_000];
const ALLOWED_GROWTH = 0.1;

if (url !== undefined) {
  describe("150 000 requests from one process to another, 256 at a time,", () => {
    it("leave both with the memory that they had after the first 50 000", async () => {
      const measured: MemoryOfBoth[] = [];
      for await (const held of measureGrowth(script("load/memory_script.ts"), url, STEPS)) {
        measured.push(held);
      }
      for (const role of roles) {
        for (const kind of ["resident", "heap"] as const) {
          const sizes = measured.map((held) => held[role][kind]);
          const growth = sizes.at(-1)! / sizes[0]! - 1;
          const shown = sizes.map((size) => `${(size / 2 ** 20).toFixed(1)} MiB`).join(", ");
          assert.ok(growth <= ALLOWED_GROWTH, `the ${role}'s ${kind} memory: ${shown}`);
        }
      }
    }, 180_000);
  });
}
