/**
 * Serves one or two services that close on signals, and a method that does not end.
 *
 * signals_script.ts URL NAME MODE, where MODE is `idle`, `busy` (a call is running), `stuck` (one that never ends),
 * `two` (services) or `closed` (before the signal).
 */
import process from "node:process";
import { connect, serve } from "@nuropb/mesh";

const [url, name, mode] = process.argv.slice(2) as [string, string, string];

const options = { url, signals: true, drainTimeout: 30_000 };
const instance = {
  work: async () => {
    console.log("working");
    await new Promise((resolve) => setTimeout(resolve, mode === "stuck" ? 60_000 : 300));
    console.log("worked");
  },
};
const service = await serve(instance, { ...options, name });
if (mode === "two") await serve(instance, { ...options, name: `${name}-2` });
// Stays in a timer of its own, so that nothing but the signal ends the process.
if (mode === "closed") {
  await service.close();
  setTimeout(() => {}, 60_000);
}
if (mode === "stuck") {
  const look = setInterval(() => {
    if (process.listenerCount("SIGTERM") > 0) return;
    clearInterval(look);
    console.log("closing");
  }, 5);
}
if (mode === "busy" || mode === "stuck") {
  const mesh = await connect(url);
  mesh.command(name, "work").finally(() => mesh.close());
}
console.log("ready");
