import assert from "node:assert/strict";
import { join } from "node:path";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { tarball, tool } from "../support/env.ts";
import { must, run } from "../support/processes.ts";

const PROGRAM = `
import { connect, serve } from "@nuropb/mesh";

class Greeter {
  hello({ name }) {
    return "hello " + name;
  }
}

const service = await serve(new Greeter(), { url: "memory:package", name: "greeter" });
const mesh = await connect("memory:package");
console.log(await mesh.request("greeter", "hello", { name: "Ann" }));
await mesh.close();
await service.close();
`;

const TYPED_PROGRAM = `
import { connect, type Mesh, NuropbException, serve, type Service } from "@nuropb/mesh";

class Greeter {
  hello({ name }: { name: string }): string {
    return "hello " + name;
  }
}

export const service: Service = await serve(new Greeter(), { url: "memory:", name: "greeter" });
export const mesh: Mesh = await connect("memory:");
export const greeting: string = await mesh.service<Greeter>("greeter").hello({ name: "Ann" });
export const error: Error = new NuropbException("no");
`;

const TYPE_OPTIONS = {
  target: "esnext",
  lib: ["esnext", "dom"],
  module: "nodenext",
  moduleResolution: "nodenext",
  types: [],
  strict: true,
  exactOptionalPropertyTypes: true,
  noEmit: true,
  skipLibCheck: false,
};

const tsc = join(import.meta.dirname ?? "", "../../node_modules/.bin/tsc");
const file = tarball();

(file === undefined ? describe.skip : describe)("the package", () => {
  const installers = [
    { name: "npm", add: ["install", "--no-audit", "--no-fund"], runs: "node" },
    { name: "bun", add: ["add"], runs: "bun" },
  ] as const;

  for (const { name, add, runs } of installers) {
    const installer = tool(name);
    const runtime = tool(runs);

    (installer === undefined || runtime === undefined ? describe.skip : describe)(
      `installed with ${name}`,
      () => {
        let folder = "";

        beforeAll(async () => {
          folder = await Deno.makeTempDir({ prefix: "nuropb-package-" });
          await Deno.writeTextFile(join(folder, "package.json"), `{ "type": "module" }\n`);
          await must(installer ?? "", [...add, file ?? ""], { cwd: folder });
        });

        afterAll(() => Deno.remove(folder, { recursive: true }));

        it(`serves an object on ${runs}, and ends`, async () => {
          await Deno.writeTextFile(join(folder, "program.js"), PROGRAM);
          const { code, output, timedOut } = await run(runtime ?? "", ["program.js"], {
            cwd: folder,
            timeoutMs: 20_000,
          });
          assert.deepEqual({ code, output, timedOut }, { code: 0, output: "hello Ann\n", timedOut: false });
        });

        it("has types that TypeScript accepts in its strictest modes", async () => {
          await Deno.writeTextFile(join(folder, "program.ts"), TYPED_PROGRAM);
          const configuration = { compilerOptions: TYPE_OPTIONS, files: ["program.ts"] };
          await Deno.writeTextFile(join(folder, "tsconfig.json"), JSON.stringify(configuration));
          const { output } = await run(tsc, ["--pretty", "false"], { cwd: folder });
          // The types of a dependency are not ours to mend.
          const ours = output.split("\n").filter((line) =>
            line !== "" && !/^node_modules\/(?!@nuropb)/.test(line)
          );
          assert.deepEqual(ours, []);
        });
      },
    );
  }
});
