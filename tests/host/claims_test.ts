import assert from "node:assert/strict";
import { inspect } from "node:util";
import { describe, it } from "@std/testing/bdd";
import { NuropbAuthenticationError, NuropbAuthorizationError, NuropbException } from "../../src/errors.ts";
import { authenticate, type Authorize, checkScopes } from "../../src/host/claims.ts";
import type { Context } from "../../src/host/context.ts";

const TOKEN = "s3cret.t0ken";

/** A message's context, of which only what its sender wrote counts here. */
function contextWith(raw: Record<string, unknown>): Context {
  return { raw } as unknown as Context;
}

/** What something rejects with. */
async function reasonOf(operation: () => unknown): Promise<unknown> {
  try {
    await operation();
  } catch (reason) {
    return reason;
  }
  throw new assert.AssertionError({ message: "It did not fail" });
}

/** The caller is refused, and neither the error nor what lies behind it shows the token. */
async function refused(authorize: Authorize, raw: Record<string, unknown>): Promise<NuropbException> {
  const reason = await reasonOf(() => authenticate(authorize, "Authorization", contextWith(raw)));
  assert.ok(reason instanceof NuropbAuthenticationError, inspect(reason));
  assert.equal(reason.code, "UNAUTHENTICATED");
  assert.ok(!inspect(reason, { depth: 9, showHidden: true }).includes(TOKEN), inspect(reason));
  return reason;
}

describe("authenticate", () => {
  const carried: [string, string][] = [
    [TOKEN, TOKEN],
    [`Bearer ${TOKEN}`, TOKEN],
    [`bearer ${TOKEN}`, TOKEN],
    [`BEARER ${TOKEN}`, TOKEN],
    [`bEaReR ${TOKEN}`, TOKEN],
    [`Bearer    ${TOKEN}  `, TOKEN],
    [`Bearer\t${TOKEN}\n`, TOKEN],
    ["Bearerless", "Bearerless"],
    [`Basic ${TOKEN}`, `Basic ${TOKEN}`],
  ];
  for (const [sent, expected] of carried) {
    it(`hands ${JSON.stringify(expected)} on of ${JSON.stringify(sent)}`, async () => {
      const asked: unknown[] = [];
      const ctx = contextWith({ Authorization: sent });
      const claims = await authenticate(
        (token, context) => {
          asked.push(token, context);
          return { sub: "Ann" };
        },
        "Authorization",
        ctx,
      );
      assert.deepEqual(claims, { sub: "Ann" });
      assert.equal(asked[0], expected);
      assert.equal(asked[1], ctx);
    });
  }

  const tokenless: [string, Record<string, unknown>][] = [
    ["nothing", {}],
    ["a token under a name in another case", { authorization: TOKEN }],
    ["an empty text", { Authorization: "" }],
    ["blanks", { Authorization: " \t " }],
    ["Bearer and a blank", { Authorization: "Bearer " }],
    ["Bearer alone", { Authorization: "Bearer" }],
    ["undefined", { Authorization: undefined }],
    ["null", { Authorization: null }],
    ["true", { Authorization: true }],
    ["a number", { Authorization: 5 }],
    ["a list with the token", { Authorization: [TOKEN] }],
    ["an object with the token", { Authorization: { token: TOKEN, toString: TOKEN } }],
    ["an inherited token", Object.create({ Authorization: TOKEN })],
  ];
  for (const [what, raw] of tokenless) {
    it(`refuses ${what} without asking authorize`, async () => {
      let asked = 0;
      const error = await refused(() => ++asked, raw);
      assert.equal(error.message, 'A bearer token is needed in the context under "Authorization"');
      assert.equal(asked, 0);
    });
  }

  it("looks under the name that it is told, though every object has something there", async () => {
    const reason = await reasonOf(() => authenticate(() => true, "toString", contextWith({})));
    assert.match(String(reason), /under "toString"/);
    const proto = contextWith(JSON.parse(`{ "__proto__": "${TOKEN}" }`));
    assert.equal(await authenticate((token) => token === TOKEN && "Ann", "__proto__", proto), "Ann");
  });

  const nobody: [string, () => unknown][] = [
    ["undefined", () => undefined],
    ["null", () => null],
    ["false", () => false],
    ["0", () => 0],
    ["NaN", () => NaN],
    ["0n", () => 0n],
    ["an empty text", () => ""],
    ["an empty object", () => ({})],
    ["an empty object without a prototype", () => Object.create(null)],
    ["an object that only inherits", () => Object.create({ sub: "Ann" })],
    ["an empty list", () => []],
    ["a promise of null", () => Promise.resolve(null)],
    ["a promise of an empty object", () => Promise.resolve({})],
  ];
  for (const [what, make] of nobody) {
    it(`refuses when authorize gives ${what}`, async () => {
      const error = await refused(make, { Authorization: `Bearer ${TOKEN}` });
      assert.equal(error.message, "The bearer token was refused");
    });
  }

  const somebody: [string, unknown][] = [
    ["an object", { sub: "Ann" }],
    ["a text", "Ann"],
    ["a number", 5],
    ["true", true],
    ["a list", ["Ann"]],
    ["a frozen object", Object.freeze({ sub: undefined })],
  ];
  for (const [what, claims] of somebody) {
    it(`gives ${what} as authorize gave it, at once or later`, async () => {
      const ctx = contextWith({ Authorization: TOKEN });
      assert.equal(await authenticate(() => claims, "Authorization", ctx), claims);
      assert.equal(await authenticate(() => Promise.resolve(claims), "Authorization", ctx), claims);
    });
  }

  const thrown: [string, (token: string) => unknown][] = [
    ["an Error with the token", (token) => new Error(`bad ${token}`)],
    ["an Error with the token as its cause", (token) => new Error("bad", { cause: { token } })],
    ["an Error with the token as its name", (token) => Object.assign(new Error("bad"), { name: token })],
    ["an Error whose name throws", (token) =>
      Object.defineProperty(new Error("bad"), "name", {
        get() {
          throw new Error(`bad ${token}`);
        },
      })],
    ["the token", (token) => token],
    ["undefined", () => undefined],
    ["null", () => null],
    ["an object with the token", (token) => ({ token })],
    ["a NuropbException", (token) => new NuropbException(`bad ${token}`)],
    ["a NuropbAuthorizationError", (token) => new NuropbAuthorizationError(`bad ${token}`)],
    ["a NuropbAuthenticationError with the token", (token) => new NuropbAuthenticationError(`bad ${token}`)],
    [
      "a NuropbAuthenticationError with the token behind it",
      (token) => new NuropbAuthenticationError("bad", { cause: new Error(token) }),
    ],
  ];
  for (const [what, make] of thrown) {
    it(`refuses when authorize throws ${what}, at once or later`, async () => {
      for (
        const authorize of [
          (token: string) => {
            throw make(token);
          },
          async (token: string) => {
            await Promise.resolve();
            throw make(token);
          },
        ]
      ) {
        await refused(authorize, { Authorization: `Bearer ${TOKEN}` });
      }
    });
  }

  it("passes on what authorize itself has to say to the caller", async () => {
    const own = new NuropbAuthenticationError("Sign in anew: your session is over");
    const authorize = () => {
      throw own;
    };
    assert.equal(await refused(authorize, { Authorization: TOKEN }), own);
  });
});

describe("checkScopes", () => {
  const granting: [string, unknown][] = [
    ["scope as a text", { scope: "read write" }],
    ["scope as a text with more blanks", { scope: " read  write " }],
    ["scope as a list", { scope: ["read", "write"] }],
    ["scp as a text", { scp: "read write" }],
    ["scp as a list", { scp: ["write", "read"] }],
    ["roles as a list", { roles: ["read", "write"] }],
    ["roles as a text", { roles: "read write" }],
    ["all three of them together", { scope: "other read", scp: [], roles: ["write"] }],
    ["a list with what is no text", { scope: [5, null, "read", { write: true }, "write"] }],
  ];
  for (const [what, claims] of granting) {
    it(`takes ${what}`, () => {
      checkScopes("shop.order", ["read", "write"], claims);
      checkScopes("shop.order", ["write"], claims);
      checkScopes("shop.order", [], claims);
    });
  }

  const lacking: [string, unknown, string][] = [
    ["nothing", { sub: "Ann" }, "read and write"],
    ["one of two", { scope: "read" }, "write"],
    ["the other of two", { scp: ["write"] }, "read"],
    ["a longer one", { scope: "reader write" }, "read"],
    ["a shorter one", { scope: "rea write" }, "read"],
    ["one in another case", { scope: "Read write" }, "read"],
    ["both with a comma between", { scope: "read,write" }, "read and write"],
    ["both in one item of a list", { roles: ["read write"] }, "read and write"],
    ["them as the names of fields", { scope: { read: true, write: true } }, "read and write"],
    ["them under another name", { scopes: ["read", "write"] }, "read and write"],
    ["true", { scope: true }, "read and write"],
    ["a text for all claims", "read write", "read and write"],
    ["no claims", undefined, "read and write"],
    ["claims of null", null, "read and write"],
  ];
  for (const [what, claims, missing] of lacking) {
    it(`refuses ${what}, and names what is missing`, () => {
      assert.throws(() => checkScopes("shop.order", ["read", "write"], claims), (error) => {
        assert.ok(error instanceof NuropbAuthorizationError);
        assert.equal(error.code, "FORBIDDEN");
        assert.equal(error.message, `shop.order needs the scope ${missing}`);
        return true;
      });
    });
  }
});
