import assert from "node:assert/strict";
import { describe, it } from "@std/testing/bdd";
import { MessageContext } from "../../src/host/context.ts";
import type { ContextHost } from "../../src/host/context.ts";
import type { Call } from "../../src/wire/envelope.ts";

/** RabbitMQ takes no longer expiration, in ms, and a timer less than half of it. */
const LONGEST_EXPIRATION = 2 ** 32 - 1;

const host: ContextHost = {
  shutdown: new AbortController().signal,
  callerFor: () => assert.fail("Nobody calls"),
  encode: () => assert.fail("Nobody emits"),
};

const call: Call = {
  type: "command",
  service: "service",
  method: "work",
  params: {},
  context: {},
  correlationId: "id",
  traceId: null,
  ttl: LONGEST_EXPIRATION,
};

describe("the context of a message that lives longer than a timer runs", () => {
  it("has its deadline, and a signal that does not abort at once", async () => {
    const before = Date.now();
    const context = new MessageContext(host, call, false);
    assert.ok(context.deadline >= before + LONGEST_EXPIRATION);
    const { signal } = context;
    // A timer that overflows rings after one.
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(signal.aborted, false);
    context.end();
  });
});
