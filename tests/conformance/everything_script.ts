/**
 * Uses everything that opens something, closes it all, says so, and ends only if nothing is left behind.
 *
 * everything_script.ts URL
 */
import { connect, serve } from "@nuropb/mesh";
import type { Context } from "@nuropb/mesh";

const url = process.argv[2]!;
const name = `everything-${crypto.randomUUID()}`;
const topic = `topic-${crypto.randomUUID()}`;
const ignore = () => {};

const service = await serve({
  work: async (_params: unknown, ctx: Context) => {
    ctx.emit(topic, "emitted");
    await ctx.mesh.publish(topic, "published");
    return ctx.signal.aborted;
  },
  hang: (_params: unknown, { signal }: Context) =>
    new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true })),
}, { name, url, events: { [topic]: ignore }, drainTimeout: 100 });
const mesh = await connect(url);

const left = mesh.subscribe(topic);
const unread = mesh.subscribe(topic);
const aborted = mesh.subscribe(topic, { signal: AbortSignal.timeout(60_000) });
await Promise.all([left.ready, unread.ready, aborted.ready]);
await mesh.request(name, "work", {}, { ttl: 60_000, signal: AbortSignal.timeout(60_000) });
for await (const { event } of left) if (event === "emitted") break;
await mesh.describe(name);
await mesh.command(name, "work");
await mesh.request(name, "hang", {}, { ttl: 50 }).catch(ignore);
await mesh.request(name, "hang", {}, { signal: AbortSignal.timeout(50) }).catch(ignore);
await mesh.request("nobody", "work").catch(ignore);
await connect("amqp://127.0.0.1:1", { connectTimeout: 60_000 }).catch(ignore);
await connect(url, { signal: AbortSignal.abort() }).catch(ignore);
const pending = mesh.request(name, "hang", {}, { ttl: 60_000 }).catch(ignore);

await mesh.close();
await pending;
await service.close();
console.log("closed");
