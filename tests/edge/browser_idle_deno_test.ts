/**
 * A page that is left open. In a file of its own, which runs beside others: it takes its time.
 *
 * @module
 */
import assert from "node:assert/strict";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { pass, stage } from "../conformance/stage.ts";
import { startFaultProxy } from "../faults/fault_proxy.ts";
import { rabbitmqUrl, tool } from "../support/env.ts";
import { splitBundle } from "./bundle.ts";
import { type PageHost, startChromium } from "./chromium.ts";
import { startWebsockify, type WebSocketRelay } from "./websockify.ts";

const MINUTE_MS = 60_000;
const HEARTBEAT_MS = 5_000;

const url = rabbitmqUrl() ?? "";
const isPossible = url !== "" && tool("chromium") !== undefined && tool("websockify") !== undefined;

(isPossible ? describe : describe.skip)("a page that is left open", () => {
  const open = stage(url);
  let relay: WebSocketRelay;
  let chromium: PageHost;

  beforeAll(async () => {
    [relay, chromium] = await Promise.all([startWebsockify(url), startChromium()]);
  });

  afterAll(async () => {
    await chromium[Symbol.asyncDispose]();
    await relay.stop();
  });

  it("is on the same connection after three minutes of nothing but heartbeats, and can be used", async () => {
    const service = await open.service({ hello: () => "hello" });
    const { hostname, port } = new URL(relay.url);
    await using proxy = await startFaultProxy({ host: hostname, port: Number(port) });
    await using page = await chromium.open(await splitBundle("tests/edge/page.ts"));
    const to = JSON.stringify(proxy.url(relay.url));
    assert.equal(await page.evaluate(`open(${to}, { heartbeat: ${HEARTBEAT_MS} })`), null);
    await pass(3 * MINUTE_MS);
    assert.deepEqual(await page.evaluate("states()"), ["open"]);
    assert.deepEqual([proxy.accepted, proxy.connections], [1, 1]);
    assert.equal(await page.evaluate(`request("${service.name}", "hello", {})`), "hello");
  }, 4 * MINUTE_MS);
});
