/**
 * Serves under a name until it is told to quit.
 *
 * worker_script.ts URL NAME
 */
import { serve } from "@nuropb/mesh";
import type { Context, Service } from "@nuropb/mesh";

const [url, name] = process.argv.slice(2) as [string, string];

const service: Service = await serve({
  who: () => process.pid,
  redelivered: (_params: unknown, { redelivered }: Context) => redelivered,
  hang: (_params: unknown, { redelivered }: Context) => {
    if (redelivered) return process.pid;
    console.log("hanging");
    return new Promise(() => {});
  },
  quit: () => {
    setTimeout(() => void service.close());
    return process.pid;
  },
}, { url, name, drainTimeout: 1_000 });
console.log("ready");
