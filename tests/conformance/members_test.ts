import assert from "node:assert/strict";
import { connect, event, method, serve } from "@nuropb/mesh";
import type { Context } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { z } from "zod";
import { uniqueName, urls } from "../support/env.ts";
import { reasonOf, signal, stage, take, within } from "./stage.ts";

const greeting = z.object({ name: z.string().min(2) });

function decorated(topic: string, heard: (payload: unknown) => void) {
  class Greeter {
    @method({ description: "greets", params: greeting })
    hello({ name }: { name: string }) {
      return `hello ${name}`;
    }

    @method({ hidden: true })
    secret() {
      return "secret";
    }

    @event(topic)
    onEvent(payload: unknown) {
      heard(payload);
    }
  }
  return { instance: new Greeter(), options: {} };
}

function plain(topic: string, heard: (payload: unknown) => void) {
  const instance = {
    hello: ({ name }: { name: string }) => `hello ${name}`,
    secret: () => "secret",
  };
  const methods = { hello: { description: "greets", params: greeting }, secret: { hidden: true } };
  return { instance, options: { methods, events: { [topic]: heard } } };
}

for (const { name, url } of urls()) {
  for (const [how, make] of [["decorators", decorated], ["options", plain]] as const) {
    describe(`what is said of methods by ${how} on ${name}`, () => {
      const open = stage(url);

      it("describes, validates, hides and listens", async () => {
        const topic = uniqueName("topic");
        const heard = signal<unknown>();
        const { instance, options } = make(topic, heard.send);
        const service = await open.service(instance, options);
        const mesh = await open.mesh();
        const { methods } = await mesh.describe(service.name);
        assert.deepEqual(Object.entries(methods).map(([key, { description }]) => [key, description]), [[
          "hello",
          "greets",
        ]]);
        assert.equal(await mesh.request(service.name, "hello", { name: "Ann" }), "hello Ann");
        const bad = await mesh.requestRaw(service.name, "hello", { name: "A" });
        assert.equal(bad.error?.error, "NuropbValidationError");
        const hidden = await mesh.requestRaw(service.name, "secret");
        assert.equal(hidden.error?.description, "Unknown method secret");
        await mesh.publish(topic, { id: 1 });
        assert.deepEqual(await within(heard.promise), { id: 1 });
      });
    });
  }

  describe(`what can be served on ${name}`, () => {
    const open = stage(url);

    it("is an object of functions, which see it as this", async () => {
      const counter = {
        count: 0,
        add({ by }: { by: number }) {
          return this.count += by;
        },
      };
      const service = await open.service(counter);
      const mesh = await open.mesh();
      await mesh.request(service.name, "add", { by: 2 });
      assert.equal(await mesh.request(service.name, "add", { by: 3 }), 5);
    });

    it("is an object without a prototype", async () => {
      const bare: { hi(): string } = Object.assign(Object.create(null), { hi: () => "hi" });
      const service = await open.service(bare);
      assert.equal(await (await open.mesh()).request(service.name, "hi"), "hi");
    });

    it("is an instance with private state and functions in its fields", async () => {
      class Counter {
        #count = 5;
        read() {
          return this.#count;
        }
        arrow = () => this.#count + 1;
      }
      const service = await open.service(new Counter());
      const mesh = await open.mesh();
      assert.equal(await mesh.request(service.name, "read"), 5);
      assert.equal(await mesh.request(service.name, "arrow"), 6);
    });

    it("is a class that inherits: the nearest method counts, and super works", async () => {
      class Base {
        inherited() {
          return "base";
        }
        overridden() {
          return "base";
        }
        covered() {
          return "base";
        }
      }
      class Derived extends Base {
        override overridden() {
          return `derived from ${super.overridden()}`;
        }
      }
      const instance = new Derived();
      Object.defineProperty(instance, "covered", { value: "no function" });
      const service = await open.service(instance);
      const mesh = await open.mesh();
      assert.equal(await mesh.request(service.name, "inherited"), "base");
      assert.equal(await mesh.request(service.name, "overridden"), "derived from base");
      const { error } = await mesh.requestRaw(service.name, "covered");
      assert.equal(error?.description, "Unknown method covered");
    });

    it("keeps for an inherited method what its decorator said", async () => {
      class Base {
        @method({ hidden: true })
        secret() {
          return "secret";
        }
        @method({ description: "of the base" })
        open() {
          return "open";
        }
      }
      class Derived extends Base {}
      const service = await open.service(new Derived());
      const mesh = await open.mesh();
      const { methods } = await mesh.describe(service.name);
      assert.deepEqual(Object.keys(methods), ["open"]);
      assert.equal(methods["open"]?.description, "of the base");
    });

    it("can be overruled by the options, field by field", async () => {
      class Shop {
        @method({ description: "by the decorator", hidden: true })
        order() {
          return 1;
        }
      }
      const service = await open.service(new Shop(), { methods: { order: { hidden: false } } });
      const { methods } = await (await open.mesh()).describe(service.name);
      assert.equal(methods["order"]?.description, "by the decorator");
    });
  });

  describe(`the name of a service on ${name}`, () => {
    const suffix = crypto.randomUUID().slice(0, 8);
    class Quick {}
    const named = (className: string) => {
      const Class = class extends Quick {
        where(_params: unknown, { raw }: Context) {
          return raw;
        }
      };
      Object.defineProperty(Class, "name", { value: className });
      return new Class();
    };

    for (
      const [className, expected] of [
        [`QuickExample${suffix}`, `quick-example${suffix}`],
        [`HTTPGate${suffix}`, `http-gate${suffix}`],
        [`Orders_V2Service${suffix}`, `orders-v2-service${suffix}`],
        [`plain${suffix}`, `plain${suffix}`],
      ] as const
    ) {
      it(`is ${expected.slice(0, -8)}… for the class ${className.slice(0, -8)}…`, async () => {
        const mesh = await connect(url);
        try {
          const service = await serve(named(className), { mesh });
          assert.equal(service.name, expected);
          assert.deepEqual(await mesh.request(expected, "where", {}, { context: { a: 1 } }), { a: 1 });
          await service.close();
        } finally {
          await mesh.close();
        }
      });
    }
  });

  describe(`a mesh shared by services on ${name}`, () => {
    const open = stage(url);

    it("is the services' own, and stays open when one of them closes", async () => {
      const mesh = await open.mesh();
      const first = await open.service({ hi: () => "first" }, { mesh });
      const second = await open.service({ hi: () => "second" }, { mesh });
      assert.equal(first.mesh, mesh);
      assert.equal(await mesh.request(first.name, "hi"), "first");
      assert.equal(await mesh.request(second.name, "hi"), "second");
      await first.close();
      assert.equal(mesh.status.state, "open");
      assert.equal(await mesh.request(second.name, "hi"), "second");
    });

    it("closes its own mesh with the service", async () => {
      const service = await open.service({ hi: () => "hi" });
      assert.equal(service.mesh.status.state, "open");
      await service.close();
      assert.equal(service.mesh.status.state, "closed");
    });

    it("serves, calls, publishes and subscribes over one connection at once", async () => {
      const mesh = await open.mesh();
      const topic = uniqueName("topic");
      const subscription = mesh.subscribe(topic);
      await subscription.ready;
      const service = await open.service({
        hi: async (_params: unknown, ctx: Context) => {
          await ctx.mesh.publish(topic, "from within");
          return "hi";
        },
      }, { mesh });
      assert.equal(await mesh.request(service.name, "hi"), "hi");
      assert.deepEqual((await take(subscription, 1)).map(({ event }) => event), ["from within"]);
    });

    it("cannot be served on once it is closed", async () => {
      const mesh = await open.mesh();
      await mesh.close();
      const reason = await reasonOf(() => open.service({ hi() {} }, { mesh }));
      assert.equal((reason as { code?: string }).code, "CLOSED");
    });
  });
}
