/**
 * The examples for the edge do what they say.
 *
 * @module
 */
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import type { Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, describe, it } from "@std/testing/bdd";
import { eventually } from "../conformance/stage.ts";
import { type Daemon, startDaemon } from "../support/daemon.ts";
import { rabbitmqUrl, tool } from "../support/env.ts";
import { bundle, root } from "./bundle.ts";
import { type PageHost, startChromium } from "./chromium.ts";
import { startWebsockify, type WebSocketRelay } from "./websockify.ts";
import { runWorkerd, type Workerd } from "./workerd.ts";

const url = rabbitmqUrl() ?? "";
const canBrowse = url !== "" && tool("chromium") !== undefined && tool("websockify") !== undefined;

(url === "" ? describe.skip : describe)("the example of a worker", () => {
  let code: string;
  let folder: string;

  beforeAll(async () => {
    code = await bundle("examples/worker/worker.ts");
  });

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "nuropb-objects-"));
  });

  afterEach(() => rm(folder, { recursive: true }));

  /** As on Cloudflare itself, where objects and their alarms outlive the machines that they are on. */
  const start = async (): Promise<Workerd> => {
    const disk = `(name = "disk", disk = (path = ${JSON.stringify(folder)}, writable = true)),`;
    const config = await readFile(`${root}examples/worker/config.capnp`, "utf8");
    return await runWorkerd(
      code,
      config.replace("localhost:8080", "127.0.0.1:0")
        .replace(/amqp:[^"]*/, url)
        .replace("services = [", `services = [${disk}`)
        .replace("inMemory = void", 'localDisk = "disk"'),
    );
  };

  it("says so when nobody hosts the service, and answers once the Durable Object does", async () => {
    await using workerd = await start();
    assert.equal((await workerd.fetch("/Ann")).status, 503);
    assert.equal((await workerd.fetch("/greeter", { method: "POST" })).status, 200, workerd.output());
    const answer = await workerd.fetch("/Ann%20B");
    assert.equal(await answer.text(), "hello Ann B\n", workerd.output());
  });

  it("answers again when the object was lost, with no request to it: its alarm calls a new one", async () => {
    {
      await using workerd = await start();
      assert.equal((await workerd.fetch("/greeter", { method: "POST" })).status, 200, workerd.output());
    }
    await using workerd = await start();
    await eventually(async () => (await workerd.fetch("/Ann")).status, (status) => status === 200, 20_000);
  });
});

(canBrowse ? describe : describe.skip)("the example of a page", () => {
  let relay: WebSocketRelay;
  let chromium: PageHost;
  let demo: Daemon;
  let address = "";

  beforeAll(async () => {
    [relay, chromium] = await Promise.all([startWebsockify(url), startChromium()]);
    demo = startDaemon(process.execPath, ["run", "-A", "--no-check", `${root}examples/browser/demo.ts`], {
      NUROPB_URL: url,
      NUROPB_RELAY_URL: relay.url,
      PORT: "0",
    });
    const line = /http:\/\/localhost:\d+/;
    await eventually(() => demo.output(), (output) => line.test(output), 30_000);
    address = line.exec(demo.output())?.[0] ?? "";
  });

  afterAll(async () => {
    await demo[Symbol.asyncDispose]();
    await chromium[Symbol.asyncDispose]();
    await relay.stop();
  });

  const text = (page: Page, selector: string) => page.locator(selector).innerText();
  const isConnected = (page: Page) =>
    eventually(() => text(page, "#status"), (shown) => shown === "Connected", 20_000);

  it("calls the service, and shows its answer and its events", async () => {
    await using page = await chromium.visit(address);
    await using other = await chromium.visit(address);
    await Promise.all([isConnected(page), isConnected(other)]);
    await page.selectOption("select", "sencha");
    await page.fill("input", "1");
    await page.click("button");
    await eventually(() => text(page, "#answer"), (answer) => /^Order #\d+ is served, after /.test(answer));
    for (const each of [page, other]) {
      await eventually(
        () => text(each, "#feed"),
        (feed) => /ready\s+1 × sencha[^]*ordered\s+1 × sencha/.test(feed),
      );
    }
  });

  it("shows when the relay is away, and when it is back", async () => {
    await using page = await chromium.visit(address);
    await isConnected(page);
    await relay.stop();
    await eventually(() => text(page, "#status"), (shown) => shown === "Connecting");
    await relay.start();
    await isConnected(page);
  });

  it("says why it is not connected when the relay is away from the start, and goes on once it is there", async () => {
    await relay.stop();
    await using page = await chromium.visit(address);
    await eventually(
      () => text(page, "#answer"),
      (shown) => shown.includes("No broker can be reached"),
      20_000,
    );
    await relay.start();
    await isConnected(page);
    assert.equal(await text(page, "#answer"), "");
  });
});
