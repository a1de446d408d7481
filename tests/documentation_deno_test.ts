/**
 * The code in the README and in the doc comments does what it says: each block runs.
 *
 * @module
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, it } from "@std/testing/bdd";

const root = fileURLToPath(new URL("..", import.meta.url));
const run = promisify(execFile);

describe("the documentation", () => {
  it("has examples that type-check and run", async () => {
    const { stdout } = await run(process.execPath, ["test", "-A", "--doc", "README.md", "mod.ts", "src"], {
      cwd: root,
      env: { ...process.env, NO_COLOR: "1" },
    });
    const [, passed] = /(\d+) passed \| 0 failed/.exec(stdout) ?? [];
    assert.ok(Number(passed) >= 10, stdout);
  });

  it("has a demo that shows a request, an event, a command and an error", async () => {
    const { stdout } = await run(process.execPath, ["run", "-A", "examples/quick_start.ts"], {
      cwd: root,
      env: { ...process.env, NUROPB_URL: "memory:" },
    });
    for (
      const line of ['answers "hello Ann"', "greetings.sent", 'noted "buy milk"', "RangeError", "closed"]
    ) {
      assert.ok(stdout.includes(line), `${line} is missing in:\n${stdout}`);
    }
  });
});
