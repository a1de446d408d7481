import assert from "node:assert/strict";
import process from "node:process";
import { NuropbValidationError, serve } from "@nuropb/mesh";
import { afterEach, describe, it } from "@std/testing/bdd";
import { onTermination } from "../../src/runtime/signals.ts";
import { rabbitmqUrl, uniqueName, urls } from "../support/env.ts";
import { start } from "./child.ts";
import type { Child } from "./child.ts";
import { failure, within } from "./stage.ts";

const SIGNALS = ["SIGTERM", "SIGINT"] as const;

const listeners = () => SIGNALS.map((signal) => process.listenerCount(signal));

const url = rabbitmqUrl();

// A service on `memory:` keeps no process: it would end without any signal.
if (url !== undefined) {
  describe("a process of a service with signals on rabbitmq", () => {
    const children: Child[] = [];
    afterEach(async () => {
      for (const child of children) child.kill();
      await Promise.all(children.splice(0).map(({ ended }) => ended));
    });

    async function running(mode: string): Promise<Child> {
      const child = start("signals_script.ts", url!, uniqueName("service"), mode);
      children.push(child);
      await child.line("ready");
      return child;
    }

    for (const signal of SIGNALS) {
      it(`closes at ${signal}, and the process ends by itself`, async () => {
        const child = await running("idle");
        process.kill(child.pid, signal);
        assert.deepEqual(await within(child.ended, 5_000), { code: 0, output: "ready\n" });
      });
    }

    it("ends what is running first", async () => {
      const child = await running("busy");
      await child.line("working");
      process.kill(child.pid, "SIGTERM");
      const { code, output } = await within(child.ended, 5_000);
      assert.equal(code, 0);
      assert.ok(output.endsWith("worked\n"), output);
    });

    for (const second of SIGNALS) {
      it(`ends at once at a second signal: SIGTERM and ${second}`, async () => {
        const child = await running("stuck");
        await child.line("working");
        process.kill(child.pid, "SIGTERM");
        await child.line("closing");
        process.kill(child.pid, second);
        const { code, output } = await within(child.ended, 5_000);
        assert.notEqual(code, 0);
        assert.ok(!output.includes("worked"), output);
      });
    }

    it("closes with the others of its process", async () => {
      const child = await running("two");
      process.kill(child.pid, "SIGTERM");
      assert.deepEqual(await within(child.ended, 5_000), { code: 0, output: "ready\n" });
    });

    it("leaves signals to the runtime again once it is closed", async () => {
      const child = await running("closed");
      process.kill(child.pid, "SIGTERM");
      assert.notEqual((await within(child.ended, 5_000)).code, 0);
    });
  });
}

for (const { name, url } of urls()) {
  describe(`a service with signals on ${name}`, () => {
    it("listens until it is closed, and only when it is told to", async () => {
      const before = listeners();
      await using _plain = await serve({ work() {} }, { url, name: uniqueName("service") });
      assert.deepEqual(listeners(), before);
      const services = [
        await serve({ work() {} }, { url, name: uniqueName("service"), signals: true }),
        await serve({ work() {} }, { url, name: uniqueName("service"), signals: true }),
      ];
      assert.deepEqual(listeners(), before.map((count) => count + 2));
      for (const service of services) await service.close();
      assert.deepEqual(listeners(), before);
      await failure(
        NuropbValidationError,
        () => serve({ work() {} }, { url, name: "service", signals: "yes" as unknown as boolean }),
      );
      assert.deepEqual(listeners(), before);
    });
  });
}

describe("a signal in this process", () => {
  it("is told once to everyone who listens, whichever signal it is", () => {
    for (const signal of SIGNALS) {
      const before = listeners();
      const told: number[] = [];
      onTermination(() => told.push(1));
      const off = onTermination(() => told.push(2));
      onTermination(() => told.push(3));
      off();
      off();
      process.emit(signal, signal);
      assert.deepEqual(told, [1, 3]);
      assert.deepEqual(listeners(), before);
    }
  });
});
