/**
 * Whether memory grows: a million requests from one process to another over a broker, 256 at a time. Fails when
 * either holds 10 % more at the end than after the first 50 000 of them.
 *
 * memory_script.ts URL [REQUESTS]
 *
 * Deno and Bun run it as it is; for Node, `esbuild --bundle --platform=node --format=esm` makes it JavaScript.
 *
 * @module
 */
import process from "node:process";
import { measureGrowth } from "./memory_growth.ts";
import type { MemoryOfBoth } from "./memory_growth.ts";
import { roles, runRole } from "./memory_program.ts";

/** Requests between two measurements; the first is what the others are compared to. */
const STEP = 50_000;
const ALLOWED_GROWTH = 0.1;
const MEBIBYTE = 2 ** 20;

const [first = "", second] = process.argv.slice(2);
const role = roles.find((role) => role === first);
if (role === undefined) await compare(first, Number(second ?? 1_000_000));
else await runRole(role, second!);

async function compare(url: string, requests: number): Promise<void> {
  const self = process.argv[1]!;
  const program = { command: process.execPath, args: "Deno" in globalThis ? ["run", "-A", self] : [self] };
  const measured: MemoryOfBoth[] = [];
  const steps = Array.from({ length: Math.ceil(requests / STEP) }, () => STEP);
  const started = performance.now();
  for await (const held of measureGrowth(program, url, steps)) {
    measured.push(held);
    const shown = roles.map((role) => {
      const { resident, heap } = held[role];
      return `${role} ${(resident / MEBIBYTE).toFixed(1)} MiB resident, ${
        (heap / MEBIBYTE).toFixed(2)
      } MiB heap`;
    });
    console.log(`${measured.length * STEP} requests: ${shown.join("; ")}`);
  }
  console.log(`${Math.round((performance.now() - started) / 1_000)} s`);
  for (const role of roles) {
    const growth = measured.at(-1)![role].resident / measured[0]![role].resident - 1;
    const isTooMuch = growth > ALLOWED_GROWTH;
    console.log(`${role}: ${(100 * growth).toFixed(1)} % ${isTooMuch ? "TOO MUCH" : "ok"}`);
    if (isTooMuch) process.exitCode = 1;
  }
}
