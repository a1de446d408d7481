import assert from "node:assert/strict";
import fc from "fast-check";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { connect, NuropbException, NuropbHandlingError, serve } from "@nuropb/mesh";
import type { Context, Mesh, Service } from "@nuropb/mesh";
import { memoryBroker } from "../../src/transport/memory.ts";
import { uniqueName } from "../support/env.ts";
import { eventually } from "../conformance/stage.ts";
import { noticeRejections } from "../transport/fake_broker.ts";
import { anything } from "./arbitraries.ts";
import type { Maker } from "./arbitraries.ts";
import { checkAsync, settledOutcomeOf } from "./property.ts";

const broker = uniqueName("mesh");
const url = `memory:${broker}`;
const name = "shop";

describe("a method", () => {
  noticeRejections();
  let make: Maker = () => null;
  let service: Service;
  let mesh: Mesh;
  beforeAll(async () => {
    service = await serve({
      give: () => make(),
      giveLater: async () => await Promise.resolve().then(make),
      fail: () => {
        throw make();
      },
      failLater: () => Promise.reject(make()),
      emit: (_params: unknown, ctx: Context) => {
        ctx.emit("orders.created", make());
        return "emitted";
      },
    }, {
      url,
      name,
      events: {
        "orders.failing": () => {
          throw make();
        },
      },
    });
    mesh = await connect(url);
  });
  afterAll(async () => {
    await mesh.close();
    await service.close();
  });

  const deadLetters = () =>
    memoryBroker(broker).queues().find(({ name }) => name === "nuropb-dead-letters")?.ready ?? 0;

  for (const method of ["give", "giveLater"] as const) {
    it(`that may ${method} anything has its caller get it as JSON, or an error`, async () => {
      await checkAsync(
        2_000,
        fc.asyncProperty(anything, async (maker) => {
          make = maker;
          const { value, error } = await settledOutcomeOf(() => mesh.request(name, method), NuropbException);
          // What a promise holds is what is given.
          if (error === undefined) {
            assert.equal(JSON.stringify(value), JSON.stringify(await maker()) ?? "null");
          } else assert.notEqual(error.remote, undefined);
        }),
      );
    });
  }

  for (const method of ["fail", "failLater"] as const) {
    it(`that may ${method} with anything has its caller get an error`, async () => {
      await checkAsync(
        2_000,
        fc.asyncProperty(anything, async (maker) => {
          make = maker;
          const { error } = await settledOutcomeOf(() => mesh.request(name, method), NuropbException);
          assert.equal(typeof error?.remote?.name, "string");
          assert.equal(typeof error?.remote?.description, "string");
        }),
      );
    });
  }

  it("that may emit anything has it published, or its caller gets an error", async () => {
    await checkAsync(
      1_000,
      fc.asyncProperty(anything, async (maker) => {
        make = maker;
        const { value, error } = await settledOutcomeOf(() => mesh.request(name, "emit"), NuropbException);
        if (error === undefined) assert.equal(value, "emitted");
        else assert.equal(error.remote?.name, "NuropbValidationError");
      }),
    );
  });

  it("that fails with anything at a command or an event has it among the dead letters, each of them", async () => {
    let sent = deadLetters();
    await checkAsync(
      1_000,
      fc.asyncProperty(anything, fc.boolean(), async (maker, isEvent) => {
        make = maker;
        if (isEvent) await mesh.publish("orders.failing", 1);
        else await mesh.command(name, "fail");
        sent++;
        await eventually(deadLetters, (count) => count === sent);
      }),
    );
  });

  it("that does not exist, whatever it is called, is told to the caller", async () => {
    await checkAsync(
      1_000,
      fc.asyncProperty(fc.string({ unit: "binary", minLength: 1 }), async (method) => {
        const { error } = await settledOutcomeOf(() => mesh.request(name, method), NuropbHandlingError);
        assert.equal(error?.code, "UNKNOWN_METHOD");
      }),
    );
    for (const method of ["constructor", "__proto__", "toString", "hasOwnProperty", "valueOf"]) {
      const { error } = await settledOutcomeOf(() => mesh.request(name, method), NuropbHandlingError);
      assert.equal(error?.code, "UNKNOWN_METHOD");
    }
  });
});
