import assert from "node:assert/strict";
import { method, NuropbHandlingError } from "@nuropb/mesh";
import type { Context } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { urls } from "../support/env.ts";
import { failure, stage } from "./stage.ts";

const byDescription = Symbol("byDescription");

class Vault {
  readonly opened: string[] = [];
  readonly combination = 1234;
  readonly tools = { open: () => "opened" };

  [byDescription]() {
    this.opened.push("symbol");
  }

  static fromOutside() {
    return "static";
  }

  get door() {
    this.opened.push("getter");
    return () => "door";
  }

  set lock(_value: unknown) {
    this.opened.push("setter");
  }

  _private() {
    this.opened.push("_private");
  }

  #hash() {
    this.opened.push("#hash");
  }

  __dunder() {
    this.#hash();
  }

  @method({ hidden: true })
  hidden() {
    this.opened.push("hidden");
  }

  alsoHidden() {
    this.opened.push("alsoHidden");
  }

  peek() {
    return this.opened;
  }
}

const forbidden = [
  "constructor",
  "prototype",
  "__proto__",
  "__defineGetter__",
  "__lookupGetter__",
  "toString",
  "toLocaleString",
  "hasOwnProperty",
  "isPrototypeOf",
  "propertyIsEnumerable",
  "valueOf",
  "then",
  "call",
  "apply",
  "bind",
  "_private",
  "#hash",
  "hash",
  "__dunder",
  "hidden",
  "alsoHidden",
  "combination",
  "opened",
  "tools",
  "tools.open",
  "door",
  "lock",
  "byDescription",
  "Symbol(byDescription)",
  "fromOutside",
  "Peek",
  "peek ",
  "nuropb_peek",
  "é\u0000",
];

for (const { name, url } of urls()) {
  describe(`what cannot be called on ${name}`, () => {
    const open = stage(url);

    for (const member of forbidden) {
      it(`is ${JSON.stringify(member)}`, async () => {
        const vault = new Vault();
        const service = await open.service(vault, { methods: { alsoHidden: { hidden: true } } });
        const mesh = await open.mesh();
        const error = await failure(NuropbHandlingError, () => mesh.request(service.name, member, { a: 1 }));
        assert.equal(error.message, `Unknown method ${member}`);
        assert.equal(error.code, "UNKNOWN_METHOD");
        assert.deepEqual(error.remote, {
          name: "NuropbHandlingError",
          description: `Unknown method ${member}`,
        });
        assert.deepEqual(vault.opened, []);
      });
    }

    it("is not described either", async () => {
      const service = await open.service(new Vault(), { methods: { alsoHidden: { hidden: true } } });
      assert.deepEqual(Object.keys((await (await open.mesh()).describe(service.name)).methods), ["peek"]);
    });

    const builtIn: [string, object, string[]][] = [
      [
        "a Map",
        new (class Cache extends Map<string, unknown> {
          own() {}
        })(),
        ["get", "set", "clear", "forEach"],
      ],
      [
        "an Array",
        new (class List extends Array<unknown> {
          own() {}
        })(),
        ["push", "at", "map"],
      ],
      [
        "an Error",
        new (class Fault extends Error {
          own() {}
        })(),
        ["toString", "captureStackTrace"],
      ],
      [
        "a Promise",
        Object.create(
          (class Later extends Promise<unknown> {
            own() {}
          }).prototype,
        ),
        ["then", "catch", "finally"],
      ],
      [
        "an EventTarget",
        new (class Source extends EventTarget {
          own() {}
        })(),
        ["addEventListener", "removeEventListener", "dispatchEvent", "getParent"],
      ],
      [
        "an AbortController",
        new (class Stop extends AbortController {
          own() {}
        })(),
        ["abort"],
      ],
    ];
    for (const [what, instance, members] of builtIn) {
      it(`is what a class inherits from ${what}`, async () => {
        const service = await open.service(instance);
        const mesh = await open.mesh();
        assert.deepEqual(Object.keys((await mesh.describe(service.name)).methods), ["own"]);
        for (const member of members) {
          const { error } = await mesh.requestRaw(service.name, member, { type: "x" });
          assert.deepEqual(error, { error: "NuropbHandlingError", description: `Unknown method ${member}` });
        }
      });
    }

    it("is what the instance gets after it was served", async () => {
      const instance: Record<string, () => string> = { own: () => "own" };
      const service = await open.service(instance);
      instance["late"] = () => "late";
      Object.assign(Object.prototype, { polluted: () => "polluted" });
      try {
        const mesh = await open.mesh();
        for (const member of ["late", "polluted"]) {
          const { error } = await mesh.requestRaw(service.name, member);
          assert.equal(error?.description, `Unknown method ${member}`);
        }
      } finally {
        delete (Object.prototype as { polluted?: unknown }).polluted;
      }
    });

    it("never reaches a method by a name that JSON made of something else", async () => {
      const service = await open.service({ own: () => "own" });
      const mesh = await open.mesh();
      const { error } = await mesh.requestRaw(service.name, "own\u0000");
      assert.equal(error?.description, "Unknown method own\u0000");
    });
  });

  describe(`keys like __proto__ on ${name}`, () => {
    const open = stage(url);
    const hostile = (): Record<string, unknown> =>
      JSON.parse(
        '{"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}},"toString":1,"a":{"__proto__":{"polluted":true}}}',
      );
    const assertUnpolluted = () => {
      for (const value of [{}, [], () => {}, new Map(), "text", 5]) {
        assert.equal((value as { polluted?: unknown }).polluted, undefined);
      }
    };

    it("are data like any other in params, context and result", async () => {
      const got: Record<string, unknown>[] = [];
      const service = await open.service({
        take(params: Record<string, unknown>, ctx: Context) {
          got.push(params, ctx.raw);
          return params;
        },
      });
      const mesh = await open.mesh();
      const { result, context } = await mesh.requestRaw(service.name, "take", hostile(), {
        context: hostile(),
      });
      assertUnpolluted();
      assert.equal(got.length, 2);
      for (const value of [...got, result, context] as Record<string, unknown>[]) {
        assert.deepEqual(Object.keys(value), ["__proto__", "constructor", "toString", "a"]);
        assert.deepEqual(JSON.stringify(value), JSON.stringify(hostile()));
        assert.equal(Object.getPrototypeOf(value), Object.prototype);
        assert.equal(value["polluted"], undefined);
      }
    });

    it("are data like any other in an event", async () => {
      const mesh = await open.mesh();
      const topic = crypto.randomUUID();
      const subscription = mesh.subscribe(topic);
      await subscription.ready;
      await mesh.publish(topic, hostile(), { context: hostile() });
      const { value } = await subscription.next();
      assertUnpolluted();
      assert.equal(JSON.stringify(value?.event), JSON.stringify(hostile()));
      assert.equal(JSON.stringify(value?.ctx.raw), JSON.stringify(hostile()));
    });

    it("do no harm in the options of a service", async () => {
      const methods = JSON.parse('{"own":{"description":"d"}}');
      const service = await open.service({ own: () => "own" }, { methods });
      assert.equal(await (await open.mesh()).request(service.name, "own"), "own");
      assertUnpolluted();
    });
  });
}
