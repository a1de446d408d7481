/**
 * A page in headless Chromium, and the server that it comes from.
 *
 * @module
 */
import { createHash, X509Certificate } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { type Browser, chromium, type Page } from "playwright-core";
import type { Certificate } from "../security/certificates.ts";
import { tool } from "../support/env.ts";

/** A browser that opens pages with a module in them. */
export interface PageHost extends AsyncDisposable {
  /**
   * Opens a page with nothing but the module `module.js`, which may import the others. What that puts on `globalThis`,
   * `page.evaluate` finds.
   *
   * @param host Where the page says to be from. Default: 127.0.0.1
   */
  open(modules: ReadonlyMap<string, string>, host?: string): Promise<Page>;
  /** Opens the page at an address. Fails when its script does. */
  visit(address: string): Promise<Page>;
}

/**
 * A name of this machine that browsers do not know for one. By plain http a page from there is in no secure context,
 * as one from 127.0.0.1 is.
 */
export const INSECURE_HOST = "insecure.test";

const PAGE = `<!doctype html><title>Test</title><script type="module" src="module.js"></script>`;

/**
 * Starts the browser.
 *
 * @param trusted A certificate that it is to trust. It reads no file of authorities, but takes the digest of the key
 *   that it is not to find fault with; with all others it does.
 */
export async function startChromium(trusted?: Certificate): Promise<PageHost> {
  const files = new Map<string, { type: string; text: string }>();
  const server = createServer(({ url = "" }, response) => {
    const file = files.get(url);
    response.writeHead(file === undefined ? 404 : 200, { "content-type": file?.type ?? "text/plain" });
    response.end(file?.text);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  // Chromium's own sandbox does not work for root, which the user of a CI machine is.
  const browser: Browser = await chromium.launch({
    executablePath: tool("chromium") ?? "",
    args: [
      "--no-sandbox",
      "--disable-dev-shm-usage",
      `--host-resolver-rules=MAP ${INSECURE_HOST} 127.0.0.1`,
      ...(trusted === undefined ? [] : [`--ignore-certificate-errors-spki-list=${keyDigest(trusted)}`]),
    ],
  });
  const visit = async (address: string) => {
    const page = await browser.newPage();
    const failures: string[] = [];
    page.on("pageerror", (error) => void failures.push(String(error)));
    await page.goto(address, { waitUntil: "load" });
    if (failures.length > 0) throw new Error(failures.join("\n"));
    return page;
  };
  let opened = 0;
  return {
    visit,
    open(modules, host = "127.0.0.1") {
      const folder = `/${++opened}/`;
      files.set(folder, { type: "text/html; charset=utf-8", text: PAGE });
      for (const [name, text] of modules) {
        files.set(`${folder}${name}`, { type: "text/javascript; charset=utf-8", text });
      }
      return visit(`http://${host}:${port}${folder}`);
    },
    async [Symbol.asyncDispose]() {
      await browser.close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** As Chromium names a key. */
function keyDigest({ cert }: Certificate): string {
  const key = new X509Certificate(cert).publicKey.export({ type: "spki", format: "der" });
  return createHash("sha256").update(key).digest("base64");
}
