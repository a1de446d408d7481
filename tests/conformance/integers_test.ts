import assert from "node:assert/strict";
import { NuropbHandlingError, NuropbValidationError } from "@nuropb/mesh";
import type { ConnectOptions, Context, ServeOptions } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { z } from "zod";
import { uniqueName, urls } from "../support/env.ts";
import { failure, signal, stage, take, within } from "./stage.ts";
import { makeKeys } from "./support_keys.ts";
import { publishRaw, rawUrls } from "./support_raw.ts";

const exact = { integers: "bigint" } as const;

/** What is written as integers past 2^53, though it was numbers; what is read of it exactly; and what never changes. */
const large = { first: 2 ** 53, positive: 2 ** 53 + 2, negative: -(2 ** 53) - 4 };
const read = { first: 2n ** 53n, positive: 2n ** 53n + 2n, negative: -(2n ** 53n) - 4n };
const unchanged = {
  last: 2 ** 53 - 1,
  small: -5,
  float: 1.152921504606847e21,
  huge: 1e300,
  tiny: 1.2345678901234567e-300,
  text: "1152921504606846976",
  tricky: 'a "1152921504606846976": -1152921504606846976, \\',
  "1152921504606846976": ["key"],
};

/** The body of a message that carries a value in a peer's own words. */
function bodyOf(type: "command" | "event", name: string, value: string): string {
  const rest = `"correlation_id": "0123456789abcdef0123456789abcdef", "context": {}, "trace_id": null`;
  return type === "event"
    ? `{"tag": "event", "topic": "${name}", "event": ${value}, "target": null, ${rest}}`
    : `{"tag": "command", "service": "${name}", "method": "work", "params": ${value}, ${rest}}`;
}

for (const { name, url } of urls()) {
  describe(`integers past 2^53 on ${name}`, () => {
    const open = stage(url);

    /** A service that shows what it got, and its callers. */
    async function showing(options: ServeOptions = {}, callers: ConnectOptions = {}) {
      let got: unknown;
      const service = await open.service({
        work: (params: unknown, { raw }: Context) => {
          got = { params, raw };
          return null;
        },
        give: () => ({ ...large, nested: [large], ...unchanged }),
        echo: (params: unknown) => params,
      }, options as ServeOptions);
      return { service: service.name, mesh: await open.mesh(callers), got: () => got };
    }

    it("are rounded in results, unless the caller wants them as they are", async () => {
      const { service, mesh } = await showing({}, exact);
      assert.deepEqual(await mesh.request(service, "give"), { ...read, nested: [read], ...unchanged });
      const { result } = await mesh.requestRaw(service, "give");
      assert.deepEqual(result, { ...read, nested: [read], ...unchanged });
      const rounding = await open.mesh({ integers: "number" });
      assert.deepEqual(await rounding.request(service, "give"), { ...large, nested: [large], ...unchanged });
      assert.deepEqual(await (await open.mesh()).request(service, "give"), {
        ...large,
        nested: [large],
        ...unchanged,
      });
    });

    it("are rounded in params, unless the service wants them as they are", async () => {
      for (
        const [options, expected] of [[exact, read], [{ integers: "number" }, large], [{}, large]] as const
      ) {
        const { service, mesh, got } = await showing(options);
        await mesh.request(service, "work", { ...large, ...unchanged });
        assert.deepEqual(got(), { params: { ...expected, ...unchanged }, raw: {} });
      }
    });

    it("are read by a service as its mesh reads them, unless it says otherwise", async () => {
      const shared = await open.mesh(exact);
      for (const [options, expected] of [[{}, read], [{ integers: "number" }, large]] as const) {
        const { service, mesh, got } = await showing({ mesh: shared, ...options });
        await mesh.request(service, "work", large);
        assert.deepEqual(got(), { params: expected, raw: {} });
      }
    });

    it("may be in the context, and the caller still has its answer, or its error", async () => {
      const { service, mesh, got } = await showing(exact);
      const options = { context: large, ttl: 3_000 };
      const { result, context } = await mesh.requestRaw(service, "work", {}, options);
      assert.deepEqual(got(), { params: {}, raw: read });
      assert.deepEqual([result, context], [null, large]);
      const { error } = await mesh.requestRaw(service, "missing", {}, options);
      assert.equal(error?.description, "Unknown method missing");
    });

    it("may be in an encrypted message", async () => {
      const { service, mesh, got } = await showing({ ...exact, privateKey: makeKeys().privatePem }, exact);
      await mesh.request(service, "work", large, { encrypted: true });
      assert.deepEqual(got(), { params: read, raw: {} });
      assert.deepEqual(await mesh.request(service, "give", {}, { encrypted: true }), {
        ...read,
        nested: [read],
        ...unchanged,
      });
    });

    it("may be what a schema wants", async () => {
      const service = await open.service({ work: ({ id }: { id: bigint }) => `${id}` }, {
        ...exact,
        methods: { work: { params: z.object({ id: z.bigint() }) } },
      });
      const mesh = await open.mesh();
      assert.equal(await mesh.request(service.name, "work", { id: 2 ** 53 }), "9007199254740992");
      await failure(NuropbValidationError, () => mesh.request(service.name, "work", { id: 5 }));
    });

    it("reach the subscribers and the handlers of events as these want them", async () => {
      const topic = uniqueName("topic");
      const handled = signal<unknown>();
      await open.service({ alive() {} }, { ...exact, events: { [topic]: (event) => handled.send(event) } });
      const [exactly, rounded] = [
        (await open.mesh(exact)).subscribe(topic),
        (await open.mesh()).subscribe(topic),
      ];
      await Promise.all([exactly.ready, rounded.ready]);
      await (await open.mesh()).publish(topic, [large, unchanged]);
      assert.deepEqual(await within(handled.promise), [read, unchanged]);
      assert.deepEqual((await take(exactly, 1)).map(({ event }) => event), [[read, unchanged]]);
      assert.deepEqual((await take(rounded, 1)).map(({ event }) => event), [[large, unchanged]]);
    });

    it("do not keep a service from being described", async () => {
      const { service, mesh } = await showing(exact, exact);
      assert.equal((await mesh.describe(service)).name, service);
    });

    it("are not written as BigInt, by anyone", async () => {
      const { service, mesh } = await showing(exact, exact);
      const topic = uniqueName("topic");
      const writes: [string, () => Promise<unknown>][] = [
        ["params.id", () => mesh.request(service, "work", { id: 5n })],
        ["params.id", () => mesh.request(service, "work", { id: 5n }, { encrypted: true })],
        ["params.id", () => mesh.command(service, "work", { id: 5n })],
        ["context.id", () => mesh.request(service, "work", {}, { context: { id: 5n } })],
        ["event", () => mesh.publish(topic, 5n)],
        ["event[0]", () => mesh.publish(topic, [5n])],
        ["context.id", () => mesh.publish(topic, 1, { context: { id: 5n } })],
      ];
      for (const [path, write] of writes) {
        const error = await failure(NuropbValidationError, write);
        assert.equal(error.code, "INVALID_ARGUMENT");
        assert.equal(error.message, `${path} must be something that JSON can carry, but is 5n`);
      }
      const error = await failure(NuropbHandlingError, () => mesh.request(service, "echo", { id: 2 ** 53 }));
      assert.match(
        error.message,
        /result\.id must be something that JSON can carry, but is 9007199254740992n/,
      );
    });

    it("are refused in words of another kind", async () => {
      for (const integers of ["BigInt", true, null, 53]) {
        const options = { integers } as unknown as ConnectOptions;
        const error = await failure(NuropbValidationError, () => open.mesh(options));
        assert.match(error.message, /^integers must be "number" or "bigint"/);
      }
    });
  });
}

for (const { name, url } of rawUrls()) {
  describe(`numbers that Python writes on ${name}`, () => {
    const open = stage(url);
    const written = `[9007199254740993, -9007199254740993, ${
      10n ** 40n
    }, NaN, Infinity, -Infinity, 0.1, 1E400, -0]`;
    const rounded = [2 ** 53, -(2 ** 53), 1e40, NaN, Infinity, -Infinity, 0.1, Infinity, -0];
    const exactly = [
      2n ** 53n + 1n,
      -(2n ** 53n) - 1n,
      10n ** 40n,
      NaN,
      Infinity,
      -Infinity,
      0.1,
      Infinity,
      -0,
    ];

    for (const [integers, expected] of [["number", rounded], ["bigint", exactly]] as const) {
      it(`are read in events, by handlers and subscribers, with integers as ${integers}`, async () => {
        const topic = uniqueName("topic");
        const handled = signal<unknown>();
        await open.service({ alive() {} }, { integers, events: { [topic]: (event) => handled.send(event) } });
        const subscription = (await open.mesh({ integers })).subscribe(topic);
        await subscription.ready;
        await publishRaw(url, "event", topic, bodyOf("event", topic, written));
        assert.deepEqual(await within(handled.promise), expected);
        assert.deepEqual((await take(subscription, 1)).map(({ event }) => event), [expected]);
      });

      it(`are read in params, with integers as ${integers}`, async () => {
        const ran = signal<unknown>();
        const service = await open.service({ work: (params: unknown) => ran.send(params) }, { integers });
        const text = `"NaN, Infinity, 9007199254740993"`;
        const params = `{"numbers": ${written}, "text": ${text}, "9007199254740993": {"NaN": NaN}}`;
        await publishRaw(url, "command", service.name, bodyOf("command", service.name, params));
        assert.deepEqual(await within(ran.promise), {
          numbers: expected,
          text: "NaN, Infinity, 9007199254740993",
          "9007199254740993": { NaN: NaN },
        });
      });
    }
  });
}
