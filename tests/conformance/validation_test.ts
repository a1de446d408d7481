import assert from "node:assert/strict";
import { method, NuropbException, NuropbValidationError } from "@nuropb/mesh";
import type { MethodOptions } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { type } from "arktype";
import * as v from "valibot";
import { z } from "zod";
import { urls } from "../support/env.ts";
import { failure, stage } from "./stage.ts";

type Schema = NonNullable<MethodOptions["params"]>;

/** The same params by each library: an order with a customer, lines, and a count that has a default. */
const orders: Record<string, Schema> = {
  zod: z.object({
    customer: z.object({ age: z.number() }),
    lines: z.array(z.object({ sku: z.string() })),
    count: z.number().default(1),
    note: z.string().transform((text) => text.trim()),
  }),
  valibot: v.object({
    customer: v.object({ age: v.number() }),
    lines: v.array(v.object({ sku: v.string() })),
    count: v.optional(v.number(), 1),
    note: v.pipe(v.string(), v.trim()),
  }),
  arktype: type({
    customer: { age: "number" },
    lines: type({ sku: "string" }).array(),
    count: "number = 1",
    note: "string.trim",
    "+": "delete",
  }),
};

/** What the standard wants of a schema. */
const standard = <Validate>(validate: Validate) => ({ version: 1 as const, vendor: "test", validate });

const free = (name: string) => Promise.resolve(name !== "taken");

const accounts: Record<string, Schema> = {
  zod: z.object({ user: z.object({ name: z.string().refine(free, "is taken") }) }),
  valibot: v.objectAsync({
    user: v.objectAsync({ name: v.pipeAsync(v.string(), v.checkAsync(free, "is taken")) }),
  }),
};

const good = { customer: { age: 30 }, lines: [{ sku: "a" }, { sku: "b" }], note: "  hi  ", extra: true };
const made = { customer: { age: 30 }, lines: [{ sku: "a" }, { sku: "b" }], note: "hi", count: 1 };
const bad = { customer: { age: "30" }, lines: [{ sku: "a" }, { sku: 5 }], note: "hi" };

for (const { name, url } of urls()) {
  describe(`validation on ${name}`, () => {
    const open = stage(url);

    /** A service that keeps what reaches its method. */
    async function checking(params: Schema) {
      const got: unknown[] = [];
      const take = (value: unknown) => {
        got.push(value);
        return "taken";
      };
      const service = await open.service({ take }, {
        methods: { take: { params } as MethodOptions<unknown> },
      });
      const mesh = await open.mesh();
      return {
        got,
        service,
        mesh,
        take: (value: object) => mesh.request(service.name, "take", value, { ttl: 5_000 }),
      };
    }

    for (const [library, schema] of Object.entries(orders)) {
      it(`by ${library} gives the method what the schema made of the params`, async () => {
        const { got, take } = await checking(schema);
        assert.equal(await take(good), "taken");
        assert.deepEqual(got, [made]);
      });

      it(`by ${library} refuses what is not valid, naming every path`, async () => {
        const { got, take, service } = await checking(schema);
        const error = await failure(NuropbValidationError, () => take(bad));
        assert.equal(error.code, "INVALID_PARAMS");
        assert.equal(error.remote?.name, "NuropbValidationError");
        assert.ok(error.message.includes(`${service.name}.take`), error.message);
        assert.match(error.message, /customer\.age: .*lines\.1\.sku: /s);
        assert.deepEqual(got, []);
      });

      it(`by ${library} names the path of what is missing`, async () => {
        const { take } = await checking(schema);
        const error = await failure(NuropbValidationError, () => take({ customer: {}, lines: [], note: "" }));
        assert.match(error.message, /customer\.age: /);
      });
    }

    for (const [library, schema] of Object.entries(accounts)) {
      it(`by ${library} waits for what is asynchronous`, async () => {
        const { got, take } = await checking(schema);
        assert.equal(await take({ user: { name: "Ann" } }), "taken");
        const error = await failure(NuropbValidationError, () => take({ user: { name: "taken" } }));
        assert.match(error.message, /user\.name: is taken/);
        assert.deepEqual(got, [{ user: { name: "Ann" } }]);
      });
    }

    it("names the params themselves when the fault is in the whole of them", async () => {
      const schema = z.object({ from: z.number(), to: z.number() })
        .refine(({ from, to }) => from <= to, "from must not be after to");
      const { take } = await checking(schema);
      const error = await failure(NuropbValidationError, () => take({ from: 2, to: 1 }));
      assert.match(error.message, /params: from must not be after to/);
    });

    it("holds for commands too", async () => {
      const { got, mesh, service, take } = await checking(orders["zod"]!);
      await mesh.command(service.name, "take", bad);
      await mesh.command(service.name, "take", good);
      await take(good);
      assert.deepEqual(got, [made, made]);
    });

    it("by a decorator sees the instance's method", async () => {
      class Greeter {
        readonly greeting = "hello";

        @method({ params: z.object({ name: z.string().default("stranger") }) })
        hello({ name }: { name: string }) {
          return `${this.greeting} ${name}`;
        }
      }
      const service = await open.service(new Greeter());
      assert.equal(await (await open.mesh()).request(service.name, "hello"), "hello stranger");
    });

    it("answers when the schema itself fails", async () => {
      const failing = (validate: () => never): Schema => ({ "~standard": standard(validate) });
      const throws = () => {
        throw new RangeError("broken schema");
      };
      const { got, take } = await checking(failing(throws));
      const error = await failure(NuropbException, () => take({}));
      assert.deepEqual(error.remote, { name: "RangeError", description: "broken schema" });
      assert.deepEqual(got, []);
    });

    it("answers when the schema gives paths of every kind", async () => {
      const path = ["a", { key: 1 }, { key: "b" }, Symbol("c")];
      const issues = [{ message: "first", path }, { message: "second", path: [] }, { message: "third" }];
      const schema: Schema = { "~standard": standard(() => ({ issues })) };
      const { take } = await checking(schema);
      const error = await failure(NuropbValidationError, () => take({}));
      assert.match(error.message, /a\.1\.b\.Symbol\(c\): first; params: second; params: third/);
    });
  });
}
