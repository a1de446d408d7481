/**
 * The conformance suite in Chromium, services and callers alike, over a WebSocket relay: each file in a page of its
 * own.
 *
 * @module
 */
import assert from "node:assert/strict";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { managementUrl, rabbitmqUrl, tool, uniqueName } from "../support/env.ts";
import { brokerAt } from "../support/management.ts";
import { type PageHost, startChromium } from "./chromium.ts";
import { conformanceSuite, KEYS } from "./conformance.ts";
import type { Outcome } from "./stand_ins/test.ts";
import { startWebsockify, type WebSocketRelay } from "./websockify.ts";

const url = rabbitmqUrl() ?? "";
const management = managementUrl() ?? "";
const isPossible = url !== "" && management !== "" && tool("chromium") !== undefined &&
  tool("websockify") !== undefined;
const suite = await conformanceSuite("Object.assign(globalThis, { run });");

(isPossible ? describe : describe.skip)("the conformance suite in Chromium", () => {
  const broker = brokerAt(url, management);
  let relay: WebSocketRelay;
  let chromium: PageHost;

  beforeAll(async () => {
    [relay, chromium] = await Promise.all([startWebsockify(url), startChromium()]);
  });

  afterAll(async () => {
    await chromium[Symbol.asyncDispose]();
    await relay.stop();
  });

  // The others open virtual hosts of their own, by the path of an amqp: url.
  for (const file of suite.files.filter((file) => !file.startsWith("amqp_only_"))) {
    it(`passes ${file}`, async () => {
      await using vhost = await broker.createVhost(uniqueName("nuropb-test"));
      await using page = await chromium.open(new Map([["module.js", suite.code]]));
      // The API is for no page: it does not let one of another origin read what it answers.
      await page.route(`${management}/**`, async (route) => {
        const response = await route.fetch();
        await route.fulfill({
          response,
          headers: { ...response.headers(), "access-control-allow-origin": "*" },
        });
      });
      const env = {
        NUROPB_TEST_URL: relay.urlFor(vhost.url),
        NUROPB_TEST_MANAGEMENT_URL: management,
        NUROPB_TEST_KEYS: KEYS,
      };
      const outcomes: Outcome[] = await page.evaluate(`run(${JSON.stringify(file)}, ${JSON.stringify(env)})`);
      assert.deepEqual(outcomes.filter(({ problem }) => problem !== undefined), []);
      assert.notEqual(outcomes.length, 0);
    });
  }
});
