/**
 * The only place that asks which runtime this is.
 *
 * @module
 */
import { dialBun } from "./bun.ts";
import type { Dial } from "./byte_socket.ts";
import { dialDeno } from "./deno.ts";
import { dialNode } from "./node.ts";
import { dialWebSocket } from "./websocket.ts";
import { dialWorkers } from "./workers.ts";

interface Runtimes {
  Bun?: unknown;
  /** Workers have it whatever their compatibility date, and nobody else. */
  WebSocketPair?: unknown;
  Deno?: { env: { get(name: string): string | undefined } };
  process?: { getBuiltinModule?: unknown; env?: Record<string, string | undefined> };
}

const runtimes = globalThis as unknown as Runtimes;

/** Opens a WebSocket, or a TCP or TLS socket on whichever runtime this is. */
export const dial: Dial = (address, signal) => {
  if (address.webSocket !== undefined) return dialWebSocket(address.webSocket, signal);
  // Bun and Deno have Node's globals too, and Workers may have them, so they are asked first.
  if (runtimes.Bun !== undefined) return dialBun(address, signal);
  if (runtimes.Deno !== undefined) return dialDeno(address, signal);
  if (runtimes.WebSocketPair !== undefined) return dialWorkers(address, signal);
  if (runtimes.process?.getBuiltinModule !== undefined) return dialNode(address, signal);
  return Promise.reject(
    new Error("This runtime has no TCP sockets: give the wss: url of a WebSocket relay to the broker"),
  );
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
