import assert from "node:assert/strict";
import { method } from "@nuropb/mesh";
import type { MethodOptions } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { type } from "arktype";
import * as v from "valibot";
import { z } from "zod";
import { urls } from "../support/env.ts";
import { stage } from "./stage.ts";

type Schema = NonNullable<MethodOptions["params"]>;

/** An order by the libraries that tell its JSON Schema. */
const orders: Record<string, Schema> = {
  zod: z.object({
    customer: z.string().describe("who orders"),
    count: z.number().int().min(1),
    lines: z.array(z.object({ sku: z.string() })),
    note: z.string().optional(),
  }),
  arktype: type({
    customer: type("string").describe("who orders", "self"),
    count: "number.integer >= 1",
    lines: type({ sku: "string" }).array(),
    "note?": "string",
  }),
};

const nothing = { type: "object", properties: {}, required: [] };

/** A schema that tells what it is told to. */
function telling(input: () => unknown): Schema {
  const standard = {
    version: 1,
    vendor: "test",
    validate: (value: unknown) => ({ value }),
    jsonSchema: { input },
  };
  return { "~standard": standard } as Schema;
}

const cycle: Record<string, unknown> = {};
cycle["self"] = cycle;

/** Schemas that cannot tell theirs, or not as JSON. */
const silent: [string, Schema][] = [
  ["a zod schema with a date", z.object({ at: z.date() })],
  ["a zod schema with a BigInt", z.object({ id: z.bigint() })],
  ["a zod schema with a default of a BigInt", z.object({ id: z.any().default(5n) })],
  ["a zod schema with a check of its own", z.object({ id: z.custom<number>((id) => id === 5) })],
  ["a zod schema that is a transform", z.object({ id: z.number() }).transform(({ id }) => id)],
  ["a valibot schema", v.object({ id: v.number() })],
  ["an arktype schema with a date", type({ at: "Date" })],
  ["an arktype schema with a morph", type({ id: ["string", "=>", (id) => id.length] })],
  ["an arktype schema with a narrow", type({ id: type("number").narrow((id) => id === 5) })],
  [
    "a schema that throws",
    telling(() => {
      throw new Error("no");
    }),
  ],
  ["a schema of nothing", telling(() => undefined)],
  ["a schema of null", telling(() => null)],
  ["a schema of a text", telling(() => "object")],
  ["a schema of a list", telling(() => [1, 2])],
  ["a schema with a BigInt", telling(() => ({ properties: { id: { default: 5n } } }))],
  ["a schema with Infinity", telling(() => ({ properties: { id: { maximum: Infinity } } }))],
  ["a schema with a function", telling(() => ({ properties: { id: { check: () => true } } }))],
  ["a schema with a cycle", telling(() => ({ properties: cycle }))],
  [
    "a schema that throws when it is read",
    telling(() => ({
      get properties() {
        throw new Error("no");
      },
    })),
  ],
  ["a schema whose way to tell throws", {
    "~standard": {
      version: 1,
      validate: (value: unknown) => ({ value }),
      get jsonSchema() {
        throw new Error("no");
      },
    },
  } as Schema],
];

for (const { name, url } of urls()) {
  describe(`the JSON Schema in a description on ${name}`, () => {
    const open = stage(url);

    async function described(params: Schema) {
      const service = await open.service({ work: (given: unknown) => given, other: () => "other" }, {
        methods: { work: { params } as MethodOptions<unknown> },
      });
      const mesh = await open.mesh();
      const { methods } = await mesh.describe(service.name);
      const wire = await mesh.request<{ methods: Record<string, { parameters: unknown }> }>(
        service.name,
        "nuropb_describe",
      );
      assert.deepEqual(methods["other"]?.parameters, nothing);
      return {
        service: service.name,
        mesh,
        parameters: methods["work"]!.parameters,
        wire: wire.methods["work"]!.parameters,
      };
    }

    for (const [library, schema] of Object.entries(orders)) {
      it(`is what ${library} tells, over the wire and read`, async () => {
        const { parameters, wire } = await described(schema);
        assert.deepEqual(wire, parameters);
        const { properties, required, type: kind } = parameters;
        assert.equal(kind, "object");
        assert.deepEqual(required.toSorted(), ["count", "customer", "lines"]);
        assert.deepEqual(Object.keys(properties).toSorted(), ["count", "customer", "lines", "note"]);
        assert.deepEqual(properties["customer"], { type: "string", description: "who orders" });
        const { type: countType, minimum } = properties["count"] as { type: string; minimum: number };
        assert.deepEqual([countType, minimum], ["integer", 1]);
        const { type: linesType, items } = properties["lines"] as {
          type: string;
          items: Record<string, unknown>;
        };
        assert.deepEqual([linesType, items["type"], items["required"]], ["array", "object", ["sku"]]);
      });
    }

    it("is of what a caller may send: a param with a default need not be there, and what is transformed is as before", async () => {
      const inputs: Schema[] = [
        z.object({ count: z.number().default(1), note: z.string().transform((note) => note.length) }),
        type({ count: "number = 1", note: type("string").pipe((note) => note.length) }),
      ];
      for (const schema of inputs) {
        const { parameters } = await described(schema);
        assert.deepEqual(parameters.required, ["note"]);
        assert.equal((parameters.properties["note"] as { type: string }).type, "string");
        assert.equal((parameters.properties["count"] as { type: string }).type, "number");
      }
    });

    it("is an object with nothing known of it, for a plain valibot schema", async () => {
      const { parameters, wire } = await described(v.object({ id: v.number() }));
      assert.deepEqual(parameters, nothing);
      assert.deepEqual(wire, nothing);
    });

    it("is what valibot tells once it is taught to", async () => {
      const plain = v.object({ id: v.number() });
      const taught = {
        ...plain["~standard"],
        jsonSchema: {
          input: () => ({ type: "object", properties: { id: { type: "number" } }, required: ["id"] }),
        },
      };
      const { parameters, service, mesh } = await described({ "~standard": taught } as Schema);
      assert.deepEqual(parameters, {
        type: "object",
        properties: { id: { type: "number" } },
        required: ["id"],
      });
      assert.deepEqual(await mesh.request(service, "work", { id: 5 }), { id: 5 });
    });

    it("keeps choices, references and the schema's own name", async () => {
      const kinds = z.union([z.object({ card: z.string() }), z.object({ iban: z.string() })]);
      const { parameters } = await described(kinds);
      assert.deepEqual([parameters.type, parameters.properties, parameters.required], ["object", {}, []]);
      const { anyOf, $schema } = parameters as { anyOf?: unknown[]; $schema?: string };
      assert.equal(anyOf?.length, 2);
      assert.equal($schema, "https://json-schema.org/draft/2020-12/schema");
      const tree = z.object({
        value: z.string(),
        get children() {
          return z.array(tree);
        },
      });
      const recursive = (await described(tree as Schema)).parameters.properties["children"];
      assert.deepEqual(recursive, { type: "array", items: { $ref: "#" } });
    });

    for (const [what, schema] of silent) {
      it(`does not keep a service from being described with ${what}`, async () => {
        const { parameters, wire, service, mesh } = await described(schema);
        for (const { type: kind, properties, required } of [parameters, wire as typeof parameters]) {
          assert.equal(kind, "object");
          assert.ok(typeof properties === "object" && properties !== null && Array.isArray(required));
        }
        assert.equal(await mesh.request(service, "other"), "other");
      });
    }

    it("comes from a decorator as from the options", async () => {
      class Shop {
        @method({ params: z.object({ id: z.number() }) })
        order(_params: { id: number }) {}
      }
      const service = await open.service(new Shop());
      const { methods } = await (await open.mesh()).describe(service.name);
      assert.deepEqual(methods["order"]?.parameters.properties, { id: { type: "number" } });
    });
  });
}
