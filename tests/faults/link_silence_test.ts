import assert from "node:assert/strict";
import { NuropbTransportError } from "@nuropb/mesh";
import type { Mesh } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { failure, signal, within } from "../conformance/stage.ts";
import { rabbitmqUrl } from "../support/env.ts";
import type { Direction } from "./fault_proxy.ts";
import { linkStage, states } from "./link_stage.ts";

const url = rabbitmqUrl();

/** In ms. RabbitMQ counts in whole seconds. */
const HEARTBEAT = 1_000;
/** What timers take on a busy machine, in ms. */
const MARGIN = 500;
const TWO_BEATS = 2 * HEARTBEAT + MARGIN;
/** RabbitMQ looks once a beat, and has to find silence twice. */
const BROKERS_NOTICE = 3 * HEARTBEAT + MARGIN;

interface Break {
  readonly name: string;
  readonly direction: Direction | undefined;
  /** When it is to be noticed, in ms. */
  readonly latest: number;
}

const breaks: readonly Break[] = [
  { name: "both ways", direction: undefined, latest: TWO_BEATS },
  { name: "from the broker", direction: "toClient", latest: TWO_BEATS },
  // The broker alone can notice that, and says so.
  { name: "towards the broker", direction: "toServer", latest: BROKERS_NOTICE },
];

if (url !== undefined) {
  describe("a link that swallows what is sent over it", () => {
    const open = linkStage(url);

    it("is noticed by a caller within two heartbeats, or when the broker notices it", async () => {
      const service = await open.service(undefined, {
        hang: () => new Promise(() => {}),
        quick: () => "quick",
      }, { drainTimeout: 0 });
      await Promise.all(breaks.map(async ({ name, direction, latest }) => {
        const proxy = await open.proxy();
        const mesh = await open.mesh(proxy, { heartbeat: HEARTBEAT });
        await mesh.describe(service.name);
        const call = mesh.request(service.name, "hang", {}, { ttl: 60_000 });
        const lost = failure(NuropbTransportError, () => call);
        const waiting = states(mesh, ["waiting"], latest);
        const back = states(mesh, ["waiting", "open"]);
        proxy.halfOpen(true, direction);
        const told = mesh.command(service.name, "quick");
        await waiting.catch((error: Error) => assert.fail(`${name}: ${error.message}`));
        proxy.halfOpen(false);
        assert.equal((await within(lost)).code, "CONNECTION_LOST");
        await back;
        assert.equal(await within(mesh.request(service.name, "quick")), "quick");
        await within(told);
      }));
    });

    it("is noticed by a service within two heartbeats, and loses nothing that was sent to it", async () => {
      const caller = await open.mesh();
      await Promise.all(breaks.map(async ({ name, direction, latest }) => {
        const proxy = await open.proxy();
        const service = await open.service(proxy, { double: ({ n }: { n: number }) => 2 * n }, {
          heartbeat: HEARTBEAT,
        });
        assert.equal(await caller.request(service.name, "double", { n: 1 }), 2);
        const waiting = states(service.mesh, ["waiting"], latest);
        const back = states(service.mesh, ["waiting", "open"]);
        proxy.halfOpen(true, direction);
        const answers = Promise.all([2, 3].map((n) => caller.request(service.name, "double", { n })));
        await waiting.catch((error: Error) => assert.fail(`${name}: ${error.message}`));
        proxy.halfOpen(false);
        await back;
        // The broker keeps them until it notices for its part.
        assert.deepEqual(await within(answers, 15_000), [4, 6]);
      }));
    });
  });

  describe("a slow link", () => {
    const open = linkStage(url);

    /** The status changes of a mesh from now on. */
    function changesOf(mesh: Mesh): string[] {
      const changes: string[] = [];
      mesh.addEventListener("status", ({ detail }) => changes.push(detail.state));
      return changes;
    }

    it("stays while a large message takes many heartbeats, on either side and either way", async () => {
      const large = "x".repeat(1_000_000);
      const cases = ["caller", "service"].flatMap((slow) =>
        ["request", "answer"].map((what) => ({ slow, what }))
      );
      await Promise.all(cases.map(async ({ slow, what }) => {
        const proxy = await open.proxy();
        const service = await open.service(
          slow === "service" ? proxy : undefined,
          { swap: ({ text }: { text: string }) => text === large ? "small" : large },
          { heartbeat: HEARTBEAT },
        );
        const mesh = await open.mesh(slow === "caller" ? proxy : undefined, { heartbeat: HEARTBEAT });
        await mesh.describe(service.name);
        const changes = [changesOf(mesh), changesOf(service.mesh)];
        proxy.throttle(200_000);
        const text = what === "request" ? large : "small";
        const answer = await mesh.request(service.name, "swap", { text }, { ttl: 60_000 });
        assert.ok(answer === (what === "request" ? "small" : large), `another answer: ${slow}, ${what}`);
        assert.deepEqual(changes, [[], []], `${slow}, ${what}`);
      }));
    });

    it("keeps the order of what goes over it", async () => {
      const proxy = await open.proxy();
      const handled: number[] = [];
      const service = await open.service(proxy, {
        note({ n, filler }: { n: number; filler: string }) {
          handled.push(n);
          return { n, filler };
        },
      });
      const mesh = await open.mesh(proxy);
      await mesh.describe(service.name);
      proxy.delay(100);
      proxy.throttle(500_000);
      const answered: number[] = [];
      const numbers = Array.from({ length: 40 }, (_, n) => n);
      await within(
        Promise.all(numbers.map(async (n) => {
          const filler = "x".repeat(n % 2 === 0 ? 10 : 20_000);
          const answer = await mesh.request<{ n: number }>(service.name, "note", { n, filler });
          answered.push(answer.n);
        })),
        20_000,
      );
      assert.deepEqual(handled, numbers);
      assert.deepEqual(answered, numbers);
    });

    it("that is lost with a large message on it loses no message", async () => {
      const proxy = await open.proxy();
      const got = signal<number>();
      const service = await open.service(undefined, {
        take: ({ text }: { text: string }) => got.send(text.length),
      });
      const mesh = await open.mesh(proxy);
      await mesh.describe(service.name);
      proxy.throttle(200_000);
      const cut = proxy.cutAfter(100_000, "toServer");
      const told = mesh.command(service.name, "take", { text: "x".repeat(300_000) });
      await within(cut);
      proxy.throttle();
      await within(told);
      assert.equal(await within(got.promise), 300_000);
    });
  });
}
