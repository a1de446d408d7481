/**
 * The only place that asks which runtime this is.
 *
 * @module
 */
import { dialBun } from "./bun.ts";
import type { Dial } from "./byte_socket.ts";
import { dialDeno } from "./deno.ts";
import { dialNode } from "./node.ts";

interface Runtimes {
  Bun?: unknown;
  Deno?: { env: { get(name: string): string | undefined } };
  process?: { getBuiltinModule?: unknown; env?: Record<string, string | undefined> };
}

const runtimes = globalThis as unknown as Runtimes;

/** Opens a TCP or TLS socket on whichever runtime this is. */
export const dial: Dial = (address, signal) => {
  // Bun and Deno have Node's globals too, so they are asked first.
  if (runtimes.Bun !== undefined) return dialBun(address, signal);
  if (runtimes.Deno !== undefined) return dialDeno(address, signal);
  if (runtimes.process?.getBuiltinModule !== undefined) return dialNode(address, signal);
  return Promise.reject(new Error("This runtime has no TCP sockets that this library knows"));
};

/** An environment variable, where there is an environment and it may be read. */
export function environment(name: string): string | undefined {
  try {
    return runtimes.Deno !== undefined ? runtimes.Deno.env.get(name) : runtimes.process?.env?.[name];
  } catch {
    // Deno without --allow-env.
    return undefined;
  }
}
