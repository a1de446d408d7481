/**
 * The only place that asks which runtime this is.
 *
 * @module
 */
import type { Dial } from "./byte_socket.ts";
import { dialWebSocket } from "./websocket.ts";

interface Runtimes {
  Bun?: unknown;
  /** Workers have it whatever their compatibility date, and nobody else. */
  WebSocketPair?: unknown;
  Deno?: { env: { get(name: string): string | undefined } };
  process?: { getBuiltinModule?: unknown; env?: Record<string, string | undefined> };
}

const runtimes = globalThis as unknown as Runtimes;

/** What this runtime has TCP by. Loaded now, so that no connection waits for it; what other runtimes have never is. */
const tcp = loadDial();
tcp.catch(() => {
  // Whoever connects is told.
});

/** Opens a WebSocket, or a TCP or TLS socket on whichever runtime this is. */
export const dial: Dial = async (address, signal) => {
  if (address.webSocket !== undefined) return await dialWebSocket(address.webSocket, signal);
  const dialTcp = await tcp;
  if (dialTcp !== undefined) return await dialTcp(address, signal);
  throw new Error("This runtime has no TCP sockets: give the wss: url of a WebSocket relay to the broker");
};

async function loadDial(): Promise<Dial | undefined> {
  // Bun and Deno have Node's globals too, and Workers may have them, so they are asked first.
  if (runtimes.Bun !== undefined) return (await import("./bun.ts")).dialBun;
  if (runtimes.Deno !== undefined) return (await import("./deno.ts")).dialDeno;
  if (runtimes.WebSocketPair !== undefined) return (await import("./workers.ts")).dialWorkers;
  if (runtimes.process?.getBuiltinModule !== undefined) return (await import("./node.ts")).dialNode;
  return undefined;
}

/** An environment variable, where there is an environment and it may be read. */
export function environment(name: string): string | undefined {
  try {
    return runtimes.Deno !== undefined ? runtimes.Deno.env.get(name) : runtimes.process?.env?.[name];
  } catch {
    // Deno without --allow-env.
    return undefined;
  }
}
