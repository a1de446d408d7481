import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import process from "node:process";
import { describe, it } from "@std/testing/bdd";
import { script } from "./env.ts";

/** Runs the suite beside this file as the runner of this runtime does, and gives its exit code and output. */
async function run(leftBehind: string): Promise<{ code: number | null; output: string }> {
  const { command, args: [...args] } = script("support/left_behind_script.ts");
  const path = args.pop()!;
  if ("Deno" in globalThis) args.splice(0, args.length, "test", "-A", "--no-check");
  if ("Bun" in globalThis) args.push("test");
  const child = spawn(command, [...args, path], {
    env: { ...process.env, NUROPB_TEST_LEFT_BEHIND: leftBehind },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => output += text);
  }
  return await new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, output }));
  });
}

describe("what a test leaves behind", () => {
  it("is nothing in a suite that passes", async () => {
    const { code, output } = await run("");
    assert.equal(code, 0, output);
  });

  for (const what of ["rejection", "exception"]) {
    for (const when of ["during", "after"]) {
      it(`fails the run: the ${what} that nobody handles, ${when} the tests`, async () => {
        const { code, output } = await run(`${what} ${when}`);
        assert.notEqual(code, 0, output);
        assert.match(output, /left behind/);
      });
    }
  }
});
