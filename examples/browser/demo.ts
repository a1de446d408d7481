/**
 * What the page needs around it: a service on the mesh, and a server that the page comes from.
 *
 *     websockify 15674 localhost:5672 &        # any WebSocket relay to RabbitMQ, with its virtual host nuropb
 *     deno run -A examples/browser/demo.ts     # then open http://localhost:8000
 */
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { basename } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { type Context, serve } from "@nuropb/mesh";
import { build } from "esbuild";

const port = Number(process.env["PORT"] ?? 8000);
const relay = process.env["NUROPB_RELAY_URL"] ?? "ws://guest:guest@localhost:15674/?vhost=nuropb";

/** Brews tea, and tells everyone of it. */
export class TeaHouse {
  #orders = 0;

  async brew({ tea, cups, guest }: { tea: string; cups: number; guest: string }, ctx: Context) {
    const order = ++this.#orders;
    await ctx.mesh.publish("tea.ordered", { order, tea, cups, guest });
    await new Promise((resolve) => setTimeout(resolve, 400 * cups));
    ctx.emit("tea.ready", { order, tea, cups, guest });
    return { order };
  }
}

const file = (name: string) => fileURLToPath(new URL(name, import.meta.url));
const { outputFiles } = await build({
  entryPoints: [file("page.ts")],
  // A bundle for the web, in which the relay's url is written down.
  define: { RELAY_URL: JSON.stringify(relay) },
  bundle: true,
  minify: true,
  format: "esm",
  // What the page does not use, such as encryption, it does not load.
  splitting: true,
  outdir: "page",
  write: false,
});
const scripts = new Map(outputFiles.map(({ path, contents }) => [`/${basename(path)}`, contents]));

await serve(new TeaHouse());
const server = createServer(async ({ url }, response) => {
  const script = scripts.get(url ?? "");
  if (script !== undefined) {
    response.writeHead(200, { "content-type": "text/javascript" }).end(script);
  } else if (url === "/") {
    response.writeHead(200, { "content-type": "text/html; charset=utf-8" }).end(
      await readFile(file("index.html")),
    );
  } else response.writeHead(404).end();
});
server.listen(port, "localhost", () => {
  const address = server.address();
  const opened = typeof address === "object" && address !== null ? address.port : port;
  console.log(`The tea house is open: http://localhost:${opened}`);
});
