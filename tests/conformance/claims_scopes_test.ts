import assert from "node:assert/strict";
import {
  bearer,
  method,
  NuropbAuthenticationError,
  NuropbAuthorizationError,
  NuropbValidationError,
  serve,
} from "@nuropb/mesh";
import type { Authorize, BearerOptions, ClaimsOf, Context } from "@nuropb/mesh";
import { beforeAll, describe, it } from "@std/testing/bdd";
import { exportSPKI, generateKeyPair, SignJWT, UnsecuredJWT } from "jose";
import type { JWTPayload } from "jose";
import { z } from "zod";
import { urls } from "../support/env.ts";
import { failure, stage, within } from "./stage.ts";
import { drain } from "./support_letters.ts";
import { Log } from "./support_log.ts";

const withToken = (token: string) => ({ context: { Authorization: `Bearer ${token}` } });

/** Claims by token. */
const claims: Record<string, unknown> = {
  none: { sub: "Ann" },
  text: { scope: "orders:read orders:write" },
  list: { scp: ["orders:write", "orders:read"] },
  roles: { roles: ["orders:read", "orders:write", "admin"] },
  spread: { scope: "orders:read", roles: ["orders:write"] },
  half: { scope: "orders:read" },
  almost: { scope: "orders:reader orders:writer" },
  name: "orders:read orders:write",
};

for (const { name, url } of urls()) {
  describe(`a method with scopes on ${name}`, () => {
    const open = stage(url);

    async function shop(authorize: Authorize = (token) => claims[token]) {
      const runs: unknown[] = [];
      const service = await open.service({
        change: (_params: unknown, ctx: Context) => void runs.push(ctx.claims),
        read: () => "read",
      }, {
        concurrency: 1,
        methods: { change: { authorize, scopes: ["orders:read", "orders:write"] } },
      });
      return { runs, service, mesh: await open.mesh() };
    }

    for (const token of ["text", "list", "roles", "spread"]) {
      it(`runs for claims of ${JSON.stringify(claims[token])}`, async () => {
        const { runs, service, mesh } = await shop();
        await mesh.request(service.name, "change", {}, withToken(token));
        assert.deepEqual(runs, [claims[token]]);
      });
    }

    for (
      const [token, missing] of [
        ["none", "orders:read and orders:write"],
        ["half", "orders:write"],
        ["almost", "orders:read and orders:write"],
        ["name", "orders:read and orders:write"],
      ] as const
    ) {
      it(`does not run for claims of ${JSON.stringify(claims[token])}, and names what is missing`, async () => {
        const { runs, service, mesh } = await shop();
        const error = await failure(
          NuropbAuthorizationError,
          () => mesh.request(service.name, "change", {}, withToken(token)),
        );
        assert.equal(error.code, "FORBIDDEN");
        assert.equal(error.message, `${service.name}.change needs the scope ${missing}`);
        await mesh.command(service.name, "change", {}, withToken(token));
        assert.deepEqual((await drain(mesh, service.name)).map(({ type }) => type), ["command"]);
        assert.deepEqual(runs, []);
      });
    }

    it("wants to know who calls before anything else", async () => {
      const { runs, service, mesh } = await shop();
      await failure(NuropbAuthenticationError, () => mesh.request(service.name, "change"));
      assert.equal(await mesh.request(service.name, "read"), "read");
      assert.deepEqual(runs, []);
    });
  });

  describe(`bearer tokens on ${name}`, () => {
    const open = stage(url);
    const issuer = "https://id.example";
    const audience = "orders";
    let keys: Awaited<ReturnType<typeof generateKeyPair>>;
    let others: Awaited<ReturnType<typeof generateKeyPair>>;
    let publicKey: string;

    beforeAll(async () => {
      [keys, others] = await Promise.all([generateKeyPair("RS256"), generateKeyPair("RS256")]);
      publicKey = await exportSPKI(keys.publicKey);
    });

    const now = () => Math.floor(Date.now() / 1000);
    const payload = (changes: JWTPayload = {}): JWTPayload => ({
      sub: "ann-of-the-token",
      iss: issuer,
      aud: audience,
      exp: now() + 60,
      scope: "orders:read",
      ...changes,
    });
    const sign = (changes?: JWTPayload, key: CryptoKey | Uint8Array = keys.privateKey, alg = "RS256") =>
      new SignJWT(payload(changes)).setProtectedHeader({ alg }).sign(key);

    async function shop(options: Partial<BearerOptions> = {}) {
      const [log, runs] = [new Log(), [] as unknown[]];
      const service = await open.service({
        order: (_params: unknown, ctx: Context) => {
          runs.push(ctx.claims);
          return (ctx.claims as { sub: string }).sub;
        },
        change: () => void runs.push("change"),
      }, {
        authorize: bearer({ publicKey, issuer, audience, clockTolerance: 0, ...options }),
        methods: { order: { scopes: ["orders:read"] }, change: { scopes: ["orders:write"] } },
        logger: log,
      });
      return { log, runs, service, mesh: await open.mesh() };
    }

    it("of the right issuer run the method with what they say", async () => {
      const { runs, service, mesh } = await shop();
      const token = await sign();
      assert.equal(await mesh.request(service.name, "order", {}, withToken(token)), "ann-of-the-token");
      assert.equal(
        await mesh.request(service.name, "order", {}, { context: { Authorization: token } }),
        "ann-of-the-token",
      );
      assert.equal((runs[0] as JWTPayload).iss, issuer);
      await failure(
        NuropbAuthorizationError,
        () => mesh.request(service.name, "change", {}, withToken(token)),
      );
      assert.equal(runs.length, 2);
    });

    const bad: [string, () => Promise<string> | string][] = [
      ["that have expired", () => sign({ exp: now() - 1 })],
      ["that are not yet good", () => sign({ nbf: now() + 60 })],
      ["for another audience", () => sign({ aud: "billing" })],
      [
        "for no audience",
        () => new SignJWT({ iss: issuer }).setProtectedHeader({ alg: "RS256" }).sign(keys.privateKey),
      ],
      ["of another issuer", () => sign({ iss: "https://other.example" })],
      ["signed by another key", () => sign({}, others.privateKey)],
      ["without a signature", () => new UnsecuredJWT(payload()).encode()],
      ["without a signature, but with its dots", () => `${new UnsecuredJWT(payload()).encode()}AAAA`],
      [
        "signed with the public key as a secret",
        () => sign({}, new TextEncoder().encode(publicKey), "HS256"),
      ],
      ["that were changed", async () => {
        const [header, , signature] = (await sign()).split(".");
        return [header, btoa(JSON.stringify(payload({ sub: "root" }))).replace(/=+$/, ""), signature].join(
          ".",
        );
      }],
      ["that are none", () => "not.a.token"],
    ];
    for (const [what, make] of bad) {
      it(`${what} run nothing, and show nowhere`, async () => {
        const { log, runs, service, mesh } = await shop();
        const token = await make();
        const error = await failure(
          NuropbAuthenticationError,
          () => mesh.request(service.name, "order", {}, withToken(token)),
        );
        assert.equal(error.message, "The bearer token is not valid");
        assert.equal(error.cause, undefined);
        assert.deepEqual(runs, []);
        for (const secret of [...token.split(".").filter((part) => part.length > 8), "ann-of-the-token"]) {
          assert.ok(!log.text().includes(secret), log.text());
        }
      });
    }
  });
}

describe("serve refuses at once", () => {
  class Till {
    pay() {}
  }

  const url = "memory:claims";
  const guard = () => ({ sub: "Ann" });
  const wrong = <Type>(value: unknown) => value as Type;
  const unservable: [string, () => Promise<unknown>, RegExp][] = [
    [
      "an authorize that is null",
      () => serve(new Till(), { url, authorize: wrong<Authorize>(null) }),
      /authorize/,
    ],
    [
      "an authorize that is a text",
      () => serve(new Till(), { url, authorize: wrong<Authorize>("me") }),
      /authorize/,
    ],
    [
      "a method's authorize that is true",
      () => serve(new Till(), { url, methods: { pay: { authorize: wrong<Authorize>(true) } } }),
      /methods\.pay\.authorize/,
    ],
    [
      "a method's authorize that is null",
      () =>
        serve(new Till(), { url, authorize: guard, methods: { pay: { authorize: wrong<Authorize>(null) } } }),
      /methods\.pay\.authorize/,
    ],
    [
      "scopes that are a text",
      () =>
        serve(new Till(), { url, authorize: guard, methods: { pay: { scopes: wrong<string[]>("pay") } } }),
      /methods\.pay\.scopes/,
    ],
    [
      "scopes that hold a number",
      () => serve(new Till(), { url, authorize: guard, methods: { pay: { scopes: [wrong<string>(5)] } } }),
      /methods\.pay\.scopes/,
    ],
    [
      "scopes where nobody is asked who they are",
      () => serve(new Till(), { url, methods: { pay: { scopes: ["pay"] } } }),
      /methods\.pay\.scopes need an authorize/,
    ],
    [
      "no scopes at all where nobody is asked who they are",
      () => serve(new Till(), { url, methods: { pay: { scopes: [] } } }),
      /methods\.pay\.scopes need an authorize/,
    ],
    [
      "scopes on a method that is open",
      () =>
        serve(new Till(), { url, authorize: guard, methods: { pay: { scopes: ["pay"], authorize: false } } }),
      /methods\.pay\.scopes need an authorize/,
    ],
    [
      "a contextTokenKey that is a number",
      () => serve(new Till(), { url, authorize: guard, contextTokenKey: wrong<string>(5) }),
      /contextTokenKey/,
    ],
  ];
  for (const [what, operation, says] of unservable) {
    it(what, async () => {
      const error = await failure(NuropbValidationError, () => within(operation(), 2_000));
      assert.equal(error.code, "INVALID_ARGUMENT");
      assert.match(error.message, says);
    });
  }
});

describe("the types of claims and params", () => {
  it("do not let a method take claims that authorize does not give, or params that its schema does not", () => {
    const authorize = (token: string) => Promise.resolve(token === "" ? null : { sub: token, age: 5 });
    type Given = ClaimsOf<typeof authorize>;
    const given: Given = { sub: "Ann", age: 5 };

    class Typed {
      order({ id }: { id: number }, { claims }: Context<Given>) {
        return `${claims?.sub} ${id}`;
      }
    }
    class Partial {
      order({ id }: { id: number }, { claims }: Context<{ sub: string }>) {
        return `${claims?.sub} ${id}`;
      }
    }
    class Mismatched {
      order({ id }: { id: number }, { claims }: Context<{ sub: number }>) {
        return `${claims?.sub.toFixed()} ${id}`;
      }
    }
    const params = z.object({ id: z.number() });
    const other = z.object({ id: z.string() });

    // Never called: that it compiles, or does not, is the test.
    const compiled = [
      () => serve(new Typed(), { authorize, methods: { order: { params } } }),
      () => serve(new Partial(), { authorize }),
      () => serve(new Mismatched(), {}),
      // @ts-expect-error The claims have another type.
      () => serve(new Mismatched(), { authorize }),
      // @ts-expect-error The params have another type.
      () => serve(new Typed(), { authorize, methods: { order: { params: other } } }),
      // @ts-expect-error There is no such method.
      () => serve(new Typed(), { authorize, methods: { missing: {} } }),
      () =>
        class {
          @method({ params })
          right({ id }: { id: number }) {
            return id;
          }
          // @ts-expect-error The params have another type.
          @method({ params: other })
          wrong({ id }: { id: number }) {
            return id;
          }
        },
      // @ts-expect-error The claims need a check whether they are there.
      (ctx: Context<Given>) => ctx.claims.sub,
    ];
    assert.deepEqual([given.sub, compiled.length], ["Ann", 8]);
  });
});
