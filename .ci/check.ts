/**
 * Everything but the tests: format, lint, types, documentation, a rehearsal of publishing, and how large a bundle is.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { run } from "../tests/support/processes.ts";

const cwd = fileURLToPath(new URL("..", import.meta.url));
const deno = Deno.execPath();

const CHECKS: readonly { readonly title: string; readonly command: readonly string[] }[] = [
  { title: "format", command: [deno, "fmt", "--check"] },
  { title: "lint", command: [deno, "lint"] },
  { title: "types", command: [deno, "check", "mod.ts", "src", "tests", "examples", ".ci"] },
  // The library must get by on what every runtime has; TypeScript's own compiler reads this file.
  { title: "types of the Web alone", command: ["node_modules/.bin/tsc", "--project", ".ci/web.json"] },
  { title: "documentation", command: [deno, "doc", "--lint", "mod.ts"] },
  { title: "publishing rehearsal", command: [deno, "publish", "--dry-run", "--allow-dirty"] },
  { title: "size", command: [deno, "run", "-A", ".ci/size.ts"] },
];

let failed = false;
for (const { title, command: [command, ...args] } of CHECKS) {
  if (command === undefined) continue;
  const { code, output } = await run(command, args, { cwd });
  console.log(`${code === 0 ? "ok    " : "FAILED"}  ${title}`);
  if (code === 0) continue;
  failed = true;
  console.log(output);
}
if (failed) Deno.exit(1);
