/**
 * The conformance suite in Cloudflare's runtime, services and callers alike: each file in one request to a worker.
 *
 * @module
 */
import assert from "node:assert/strict";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { managementUrl, rabbitmqUrl, uniqueName } from "../support/env.ts";
import { brokerAt } from "../support/management.ts";
import { conformanceSuite, KEYS } from "./conformance.ts";
import type { Outcome } from "./stand_ins/test.ts";
import { startWorkerd, type Workerd } from "./workerd.ts";

const url = rabbitmqUrl();
const management = managementUrl();
const suite = await conformanceSuite(`
  export default {
    async fetch(request: Request) {
      const { file, env } = await request.json();
      return Response.json(await run(file, env));
    },
  };`);

(url === undefined || management === undefined ? describe.skip : describe)(
  "the conformance suite in workerd",
  () => {
    const broker = brokerAt(url ?? "", management ?? "");
    let workerd: Workerd;

    beforeAll(async () => {
      workerd = await startWorkerd({ code: suite.code });
    });

    afterAll(async () => await workerd[Symbol.asyncDispose]());

    for (const file of suite.files) {
      it(`passes ${file}`, async () => {
        await using vhost = await broker.createVhost(uniqueName("nuropb-test"));
        const env = {
          NUROPB_TEST_URL: vhost.url,
          NUROPB_TEST_MANAGEMENT_URL: management ?? "",
          NUROPB_TEST_KEYS: KEYS,
        };
        const response = await workerd.fetch("/", { method: "POST", body: JSON.stringify({ file, env }) });
        assert.equal(response.status, 200, workerd.output());
        const outcomes: Outcome[] = await response.json();
        assert.deepEqual(outcomes.filter(({ problem }) => problem !== undefined), []);
        assert.notEqual(outcomes.length, 0);
      });
    }
  },
);
