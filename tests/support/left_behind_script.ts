/**
 * A suite that passes, but for what its tests leave behind: said by NUROPB_TEST_LEFT_BEHIND, and run by the test
 * beside it.
 *
 * @module
 */
import process from "node:process";
import { describe, it } from "@std/testing/bdd";

const [what, when] = (process.env["NUROPB_TEST_LEFT_BEHIND"] ?? "").split(" ");

/** Leaves it for later, so that it belongs to no test. */
function leaveBehind(): void {
  if (what === "rejection") setTimeout(() => void Promise.reject(new Error("left behind")), 10);
  if (what === "exception") {
    setTimeout(() => {
      throw new Error("left behind");
    }, 10);
  }
}

describe("a suite", () => {
  it("passes", () => {
    if (when === "during") leaveBehind();
  });

  it("goes on for a while", async () => {
    await new Promise((resolve) => setTimeout(resolve, 100));
  });

  it("ends", () => {
    if (when === "after") leaveBehind();
  });
});
