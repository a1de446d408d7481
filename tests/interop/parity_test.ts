import { afterAll, beforeAll, it } from "@std/testing/bdd";
import { DIRECTIONS } from "./parity_cell.ts";
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

  const features = [...calls, ...events, ...guard, ...life];
  const cells = features.flatMap((feature, row) =>
    (feature.directions ?? DIRECTIONS).map((direction) => ({ feature, row, direction }))
  );
  for (const { feature, row, direction } of cells) {
    it(`${feature.name}: ${direction}`, async () => {
      await fillCell(feature, { row, of: cells.length }, direction, stage.side(direction));
    });
  }
});
