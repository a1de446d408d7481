import assert from "node:assert/strict";
import { inspect } from "node:util";
import { method, NuropbAuthenticationError, NuropbMessageError } from "@nuropb/mesh";
import type { Authorize, CallOptions, Context } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { z } from "zod";
import { uniqueName, urls } from "../support/env.ts";
import { failure, signal, stage, within } from "./stage.ts";
import { bodyOf, drain } from "./support_letters.ts";
import { Log } from "./support_log.ts";

const TOKEN = "s3cret.t0ken";
const bearing: CallOptions = { context: { Authorization: `Bearer ${TOKEN}` } };

interface Claims {
  readonly sub: string;
}

const known: Record<string, Claims> = { [TOKEN]: { sub: "Ann" } };
const authorize = (token: string): Claims | undefined => known[token];

/** A service that tells who called which of its methods. */
class Shop {
  readonly runs: unknown[][] = [];

  order(_params: unknown, { claims }: Context): unknown {
    return this.#note("order", claims);
  }

  pay(_params: unknown, { claims }: Context): unknown {
    return this.#note("pay", claims);
  }

  open(_params: unknown, { claims }: Context): unknown {
    return this.#note("open", claims);
  }

  #note(name: string, claims: unknown): unknown {
    this.runs.push([name, claims]);
    return claims ?? "nobody";
  }
}

/** What authorize may do with a caller that it does not know. */
const refusals: [string, Authorize][] = [
  ["gives undefined", () => undefined],
  ["gives null later", () => Promise.resolve(null)],
  ["gives false", () => false],
  ["gives an empty object", () => ({})],
  ["gives an empty list later", () => Promise.resolve([])],
  ["throws an error with the token in it", (token) => {
    throw new Error(`unknown token ${token}`);
  }],
  [
    "rejects with an error with the token in it",
    (token) => Promise.reject(new TypeError(`unknown token ${token}`)),
  ],
  ["throws an error with the token behind it", (token) => {
    throw new Error("unknown", { cause: new Error(token) });
  }],
  ["throws the token", (token) => {
    throw token;
  }],
  ["throws an error named after the token", (token) => {
    throw Object.assign(new Error("unknown"), { name: token });
  }],
  ["throws the mesh's own error with the token in it", (token) => {
    throw new NuropbAuthenticationError(`unknown token ${token}`);
  }],
  ["throws the mesh's own error with the token behind it", (token) => {
    throw new NuropbAuthenticationError("unknown", { cause: new Error(token) });
  }],
];

for (const { name, url } of urls()) {
  describe(`a service with authorize on ${name}`, () => {
    const open = stage(url);

    for (const token of [TOKEN, `Bearer ${TOKEN}`, `bearer ${TOKEN}`, `BEARER  ${TOKEN} `]) {
      it(`gives its methods the claims for ${JSON.stringify(token)}`, async () => {
        const service = await open.service(new Shop(), { authorize });
        const mesh = await open.mesh();
        const context = { Authorization: token };
        assert.deepEqual(await mesh.request(service.name, "order", {}, { context }), { sub: "Ann" });
      });
    }

    it("waits for claims that come later", async () => {
      const service = await open.service(new Shop(), {
        authorize: async (token) => {
          await new Promise((resolve) => setTimeout(resolve, 10));
          return authorize(token);
        },
      });
      const mesh = await open.mesh();
      assert.deepEqual(await mesh.request(service.name, "order", {}, bearing), { sub: "Ann" });
      const stranger = { context: { Authorization: "Bearer other" } };
      await failure(NuropbAuthenticationError, () => mesh.request(service.name, "order", {}, stranger));
    });

    it("does not take claims from the caller", async () => {
      const shop = new Shop();
      const service = await open.service(shop, { authorize, methods: { open: { authorize: false } } });
      const mesh = await open.mesh();
      const context = { claims: { sub: "Mallory" }, __proto__: { claims: { sub: "Mallory" } } };
      assert.equal(await mesh.request(service.name, "open", {}, { context }), "nobody");
      await failure(NuropbAuthenticationError, () => mesh.request(service.name, "order", {}, { context }));
      assert.deepEqual(shop.runs, [["open", undefined]]);
    });

    it("looks for the token where it is told to", async () => {
      const service = await open.service(new Shop(), { authorize, contextTokenKey: "x-token" });
      const mesh = await open.mesh();
      assert.deepEqual(await mesh.request(service.name, "order", {}, { context: { "x-token": TOKEN } }), {
        sub: "Ann",
      });
      const error = await failure(
        NuropbAuthenticationError,
        () => mesh.request(service.name, "order", {}, bearing),
      );
      assert.equal(error.message, 'A bearer token is needed in the context under "x-token"');
    });

    for (const value of [undefined, "", "  ", "Bearer ", null, 5, [TOKEN], { token: TOKEN }]) {
      it(`refuses a caller whose token is ${inspect(value)}, without asking authorize`, async () => {
        const shop = new Shop();
        const asked: string[] = [];
        const service = await open.service(shop, { authorize: (token) => asked.push(token) });
        const context = value === undefined ? {} : { Authorization: value };
        const mesh = await open.mesh();
        const error = await failure(
          NuropbAuthenticationError,
          () => mesh.request(service.name, "order", {}, { context }),
        );
        assert.equal(error.code, "UNAUTHENTICATED");
        assert.deepEqual(error.remote, {
          name: "NuropbAuthenticationError",
          description: 'A bearer token is needed in the context under "Authorization"',
        });
        assert.deepEqual([asked, shop.runs], [[], []]);
      });
    }

    for (const [what, refuse] of refusals) {
      it(`refuses a caller when authorize ${what}, runs nothing, and shows the token nowhere`, async () => {
        const shop = new Shop();
        const [log, callersLog] = [new Log(), new Log()];
        const service = await open.service(shop, { authorize: refuse, logger: log, concurrency: 1 });
        const mesh = await open.mesh({ logger: callersLog });
        const error = await failure(
          NuropbAuthenticationError,
          () => mesh.request(service.name, "order", {}, bearing),
        );
        assert.equal(error.code, "UNAUTHENTICATED");
        const raw = await mesh.requestRaw(service.name, "order", {}, bearing);
        assert.equal(raw.error?.error, "NuropbAuthenticationError");
        assert.equal(raw.result, null);
        await mesh.command(service.name, "order", {}, bearing);
        assert.equal((await drain(mesh, service.name)).length, 1);
        assert.deepEqual(shop.runs, []);
        const shown = [
          inspect(error, { depth: 9, showHidden: true }),
          inspect(raw.error),
          log.text(),
          callersLog.text(),
        ];
        for (const text of shown) assert.ok(!text.includes(TOKEN), text);
        assert.ok(log.of("error").length > 0, "the failed command is logged");
      });
    }

    it("asks anew for every call", async () => {
      const answers = [{ sub: "Ann" }, null, { sub: "Bob" }];
      const service = await open.service(new Shop(), { authorize: () => answers.shift() });
      const mesh = await open.mesh();
      assert.deepEqual(await mesh.request(service.name, "order", {}, bearing), { sub: "Ann" });
      await failure(NuropbAuthenticationError, () => mesh.request(service.name, "order", {}, bearing));
      assert.deepEqual(await mesh.request(service.name, "order", {}, bearing), { sub: "Bob" });
    });

    it("tells authorize about the message, and not about claims", async () => {
      const asked = signal<[string, Context]>();
      const service = await open.service(new Shop(), {
        authorize: (token, ctx) => {
          assert.equal(ctx.claims, undefined);
          asked.send([token, ctx]);
          return { sub: "Ann" };
        },
      });
      const mesh = await open.mesh();
      await mesh.request(service.name, "order", {}, { ...bearing, traceId: "trace-1" });
      const [token, { raw, traceId }] = await within(asked.promise);
      assert.deepEqual([token, raw, traceId], [TOKEN, bearing.context, "trace-1"]);
    });

    it("tells a stranger nothing about its params", async () => {
      const schema = z.object({ secret: z.literal("x") });
      const service = await open.service({ order: (_params: { secret: "x" }) => 1 }, {
        authorize,
        methods: { order: { params: schema } },
      });
      const mesh = await open.mesh();
      const error = await failure(
        NuropbAuthenticationError,
        () => mesh.request(service.name, "order", { wrong: 1 }),
      );
      assert.doesNotMatch(error.message, /params|secret/);
    });

    it("lets a method have an authorize of its own, or none", async () => {
      const service = await open.service(new Shop(), {
        authorize,
        methods: { pay: { authorize: () => ({ sub: "cashier" }) }, open: { authorize: false } },
      });
      const mesh = await open.mesh();
      assert.deepEqual(await mesh.request(service.name, "order", {}, bearing), { sub: "Ann" });
      assert.deepEqual(await mesh.request(service.name, "pay", {}, { context: { Authorization: "any" } }), {
        sub: "cashier",
      });
      assert.equal(await mesh.request(service.name, "open"), "nobody");
      assert.equal(await mesh.request(service.name, "open", {}, bearing), "nobody");
      for (const guarded of ["order", "pay"]) {
        await failure(NuropbAuthenticationError, () => mesh.request(service.name, guarded));
      }
    });

    it("lets a single method be guarded, by the options or a decorator", async () => {
      class Till {
        @method({ authorize })
        pay(_params: unknown, { claims }: Context) {
          return claims;
        }
        open(_params: unknown, { claims }: Context) {
          return claims ?? "nobody";
        }
      }
      const service = await open.service(new Till());
      const mesh = await open.mesh();
      assert.equal(await mesh.request(service.name, "open", {}, bearing), "nobody");
      assert.deepEqual(await mesh.request(service.name, "pay", {}, bearing), { sub: "Ann" });
      await failure(NuropbAuthenticationError, () => mesh.request(service.name, "pay"));
    });

    it("is not switched off for a method by options that leave it undefined", async () => {
      class Till {
        @method({ authorize, encrypted: true })
        pay() {
          return "paid";
        }
      }
      // As JavaScript may write it, where a setting was forgotten.
      const options = { description: "pays", authorize: undefined, encrypted: undefined } as object;
      const service = await open.service(new Till(), { methods: { pay: options } });
      const mesh = await open.mesh();
      assert.equal((await mesh.describe(service.name)).methods["pay"]?.description, "pays");
      await failure(NuropbAuthenticationError, () => mesh.request(service.name, "pay"));
      await failure(
        NuropbMessageError,
        () => mesh.request(service.name, "pay", {}, { ...bearing, encrypted: false }),
      );
      assert.equal(await mesh.request(service.name, "pay", {}, bearing), "paid");
    });

    it("gives claims to a nested call whose token is passed on, and only to that", async () => {
      const inner = await open.service(new Shop(), { authorize });
      const outer = await open.service({
        async ask(_params: unknown, { mesh, raw, claims }: Context) {
          const passed = await mesh.request(inner.name, "order", {}, { context: raw });
          const { error } = await mesh.requestRaw(inner.name, "order");
          return { claims, passed, without: error?.error };
        },
      }, { authorize });
      assert.deepEqual(await (await open.mesh()).request(outer.name, "ask", {}, bearing), {
        claims: { sub: "Ann" },
        passed: { sub: "Ann" },
        without: "NuropbAuthenticationError",
      });
    });

    it("describes itself, and takes events, without a token", async () => {
      const came = signal<unknown>();
      const topic = uniqueName("topic");
      const service = await open.service(new Shop(), {
        authorize,
        events: { [topic]: (event, { claims }) => came.send([event, claims]) },
      });
      const mesh = await open.mesh();
      assert.deepEqual(Object.keys((await mesh.describe(service.name)).methods), ["order", "pay", "open"]);
      await mesh.publish(topic, 1, bearing);
      assert.deepEqual(await within(came.promise), [1, undefined]);
    });

    it("has a command without a token put to the dead letters, once, and not run", async () => {
      const shop = new Shop();
      const service = await open.service(shop, { authorize, concurrency: 1 });
      const mesh = await open.mesh();
      await mesh.command(service.name, "order", { number: 1 });
      await mesh.command(service.name, "order", { number: 2 }, bearing);
      const letters = await drain(mesh, service.name);
      assert.deepEqual(
        letters.map((letter) => [letter.type, letter.reason, letter.count, bodyOf(letter)["params"]]),
        [
          ["command", "rejected", 1, { number: 1 }],
        ],
      );
      assert.deepEqual(shop.runs, [["order", { sub: "Ann" }]]);
    });

    it("does not put a refused request to the dead letters, where its token would be kept", async () => {
      const service = await open.service(new Shop(), { authorize: () => null, concurrency: 1 });
      const mesh = await open.mesh();
      await failure(NuropbAuthenticationError, () => mesh.request(service.name, "order", {}, bearing));
      assert.deepEqual(await drain(mesh, service.name), []);
    });
  });
}
