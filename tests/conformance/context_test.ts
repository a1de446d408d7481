import assert from "node:assert/strict";
import { NuropbCallAgain, NuropbTimeoutError, NuropbTransportError } from "@nuropb/mesh";
import type { Context } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { uniqueName, urls } from "../support/env.ts";
import { failure, signal, stage, within } from "./stage.ts";

/** What a method saw of its context, as data. */
function facts({ raw, traceId, correlationId, deadline, redelivered }: Context) {
  return { raw, traceId, correlationId, deadline, redelivered };
}

for (const { name, url } of urls()) {
  describe(`the context on ${name}`, () => {
    const open = stage(url);

    it("has what the caller sent along", async () => {
      const service = await open.service({ facts: (_params: unknown, ctx: Context) => facts(ctx) });
      const mesh = await open.mesh();
      const context = { Authorization: "Bearer token", nested: { list: [1, null] } };
      const { result, correlationId } = await mesh.requestRaw(service.name, "facts", {}, {
        context,
        traceId: "trace-1",
      });
      const seen = result as ReturnType<typeof facts>;
      assert.deepEqual(seen.raw, context);
      assert.equal(seen.traceId, "trace-1");
      assert.equal(seen.correlationId, correlationId);
      assert.equal(seen.redelivered, false);
    });

    it("has an empty object when the caller sent nothing along", async () => {
      const service = await open.service({ facts: (_params: unknown, ctx: Context) => facts(ctx) });
      const { raw, traceId } = await (await open.mesh()).request<ReturnType<typeof facts>>(
        service.name,
        "facts",
      );
      assert.deepEqual(raw, {});
      assert.match(String(traceId), /^[0-9a-f]{32}$/);
    });

    it("has the deadline that the caller's ttl gives", async () => {
      const service = await open.service({ facts: (_params: unknown, ctx: Context) => facts(ctx) });
      const mesh = await open.mesh();
      for (const [ttl, expected] of [[5_000, 5_000], [undefined, 30_000]] as const) {
        const before = Date.now();
        const options = ttl === undefined ? {} : { ttl };
        const seen = await mesh.request<ReturnType<typeof facts>>(service.name, "facts", {}, options);
        const left = seen.deadline - before;
        assert.ok(
          left > expected - 1_000 && left <= expected + (Date.now() - before),
          `${left} of ${expected} ms`,
        );
      }
    });

    it("passes trace and remaining time on to nested requests, and not the context", async () => {
      const inner = await open.service({ facts: (_params: unknown, ctx: Context) => facts(ctx) });
      const outer = await open.service({
        ask: async (
          _params: unknown,
          ctx: Context,
        ) => [facts(ctx), await ctx.mesh.request(inner.name, "facts")],
      });
      const mesh = await open.mesh();
      const options = { ttl: 4_000, traceId: "trace-1", context: { user: "Ann" } };
      const [own, nested] = await mesh.request<ReturnType<typeof facts>[]>(outer.name, "ask", {}, options);
      assert.ok(own && nested);
      assert.equal(nested.traceId, "trace-1");
      assert.deepEqual(nested.raw, {});
      assert.notEqual(nested.correlationId, own.correlationId);
      assert.ok(
        nested.deadline < own.deadline + 1_000,
        "the nested request has no more time than its caller",
      );
    });

    it("lets a nested request have its own trace, and less time", async () => {
      const inner = await open.service({ facts: (_params: unknown, ctx: Context) => facts(ctx) });
      const outer = await open.service({
        ask: async (_params: unknown, ctx: Context) => [
          facts(ctx),
          await ctx.mesh.request(inner.name, "facts", {}, { ttl: 1_000, traceId: "own" }),
        ],
      });
      const [own, nested] = await (await open.mesh()).request<ReturnType<typeof facts>[]>(outer.name, "ask");
      assert.equal(nested?.traceId, "own");
      assert.ok(own && nested && nested.deadline < own.deadline - 20_000);
    });

    it("passes the trace on to nested commands, events, and through the typed proxy", async () => {
      const got = signal<(string | null)[]>();
      const traces: (string | null)[] = [];
      const note = ({ traceId }: Context) => {
        traces.push(traceId);
        if (traces.length === 3) got.send(traces);
      };
      const topic = uniqueName("topic");
      const inner = await open.service({ note: (_params: unknown, ctx: Context) => note(ctx) }, {
        events: { [topic]: (_payload, ctx) => note(ctx) },
      });
      const outer = await open.service({
        async work(_params: unknown, { mesh }: Context) {
          await mesh.command(inner.name, "note");
          await mesh.publish(topic, 1);
          await mesh.service<{ note(): void }>(inner.name).note();
        },
      });
      await (await open.mesh()).request(outer.name, "work", {}, { traceId: "trace-1" });
      assert.deepEqual(await within(got.promise), ["trace-1", "trace-1", "trace-1"]);
    });

    it("fails a nested request at the caller's deadline", async () => {
      const hang = signal();
      const nested = signal<unknown>();
      const inner = await open.service({ hang: () => hang.promise });
      const outer = await open.service({
        async ask(_params: unknown, ctx: Context) {
          await ctx.mesh.request(inner.name, "hang").catch(nested.send);
          await hang.promise;
        },
      });
      const mesh = await open.mesh();
      await failure(NuropbTimeoutError, () => mesh.request(outer.name, "ask", {}, { ttl: 400 }));
      const reason = await within(nested.promise);
      assert.match((reason as Error).name, /^(NuropbTimeoutError|TimeoutError)$/);
      hang.send();
    });

    it("refuses a nested request after the caller's deadline", async () => {
      const reached = signal<unknown>();
      const end = signal();
      let calls = 0;
      const inner = await open.service({ work: () => ++calls });
      const outer = await open.service({
        async ask(_params: unknown, ctx: Context) {
          await new Promise((resolve) => ctx.signal.addEventListener("abort", resolve));
          while (Date.now() <= ctx.deadline) await new Promise((resolve) => setTimeout(resolve, 1));
          await ctx.mesh.request(inner.name, "work").catch(reached.send);
          await end.promise;
        },
      });
      const mesh = await open.mesh();
      await failure(NuropbTimeoutError, () => mesh.request(outer.name, "ask", {}, { ttl: 400 }));
      assert.equal((await within(reached.promise) as Error).name, "NuropbTimeoutError");
      end.send();
      assert.equal(await mesh.request(inner.name, "work"), 1);
    });

    it("tells a method when its caller's deadline has passed", async () => {
      const aborted = signal<unknown>();
      const end = signal();
      const service = await open.service({
        wait(_params: unknown, { signal }: Context) {
          assert.equal(signal.aborted, false);
          signal.addEventListener("abort", () => aborted.send(signal.reason));
          return end.promise;
        },
      });
      const mesh = await open.mesh();
      await failure(NuropbTimeoutError, () => mesh.request(service.name, "wait", {}, { ttl: 400 }));
      assert.equal((await within(aborted.promise) as Error).name, "TimeoutError");
      end.send();
    });

    it("tells a method when the service closes and waits no longer", async () => {
      const begun = signal();
      const aborted = signal<unknown>();
      const service = await open.service({
        wait: (_params: unknown, { signal }: Context) => {
          begun.send();
          return new Promise<void>((resolve) => {
            signal.addEventListener("abort", () => {
              aborted.send(signal.reason);
              resolve();
            });
          });
        },
      }, { drainTimeout: 50 });
      const mesh = await open.mesh();
      await mesh.command(service.name, "wait");
      await within(begun.promise);
      await within(service.close());
      const reason = await within(aborted.promise);
      assert.ok(reason instanceof NuropbTransportError);
      assert.equal(reason.code, "CLOSED");
    });

    it("leaves the signal alone while the service waits for the method", async () => {
      const [begun, end] = [signal(), signal()];
      const service = await open.service({
        async work(_params: unknown, { signal }: Context) {
          begun.send();
          await end.promise;
          return signal.aborted;
        },
      });
      const mesh = await open.mesh();
      const answer = mesh.request(service.name, "work");
      await within(begun.promise);
      const closing = service.close();
      await mesh.publish(uniqueName("topic"), 1);
      end.send();
      assert.equal(await within(answer), false);
      await closing;
    });

    it("says whether the message was delivered before", async () => {
      const seen: unknown[] = [];
      const service = await open.service({
        work(_params: unknown, ctx: Context) {
          seen.push([ctx.redelivered, ctx.correlationId]);
          if (!ctx.redelivered) throw new NuropbCallAgain("once more");
          return "done";
        },
      });
      const { result, correlationId } = await (await open.mesh()).requestRaw(service.name, "work");
      assert.equal(result, "done");
      assert.deepEqual(seen, [[false, correlationId], [true, correlationId]]);
    });
  });
}
