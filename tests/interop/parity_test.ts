import { afterAll, beforeAll, it } from "@std/testing/bdd";
import { DIRECTIONS } from "../support/parity.ts";
import { calls } from "./parity_calls.ts";
import { events } from "./parity_events.ts";
import { guard } from "./parity_guard.ts";
import { life } from "./parity_life.ts";
import { Stage } from "./parity_stage.ts";
import { fillCell } from "./parity_table.ts";
import { describeWithManagement } from "./support.ts";

/** Each test fills in one cell of the table in README.md, which the test runner writes. */
describeWithManagement("parity with NuroPb 0.1.8", () => {
  let stage: Stage;

  beforeAll(async () => {
    stage = await Stage.open();
  });

  afterAll(async () => await stage?.[Symbol.asyncDispose]());

  for (const [row, feature] of [...calls, ...events, ...guard, ...life].entries()) {
    for (const direction of feature.directions ?? DIRECTIONS) {
      it(`${feature.name}: ${direction}`, () => fillCell(feature, row, direction, stage.side(direction)));
    }
  }
});
