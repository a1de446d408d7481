import assert from "node:assert/strict";
import type { Context } from "@nuropb/mesh";
import { connect, serve } from "@nuropb/mesh";
import { afterAll, describe, it } from "@std/testing/bdd";
import { Management } from "../conformance/management.ts";
import { eventually, within } from "../conformance/stage.ts";
import { uniqueName } from "../support/env.ts";
import { hasRabbitmq, startCluster } from "../support/rabbitmq.ts";
import type { RabbitmqNode } from "../support/rabbitmq.ts";
import { closeConnections } from "./broker_connections.ts";
import { Ledger, Load } from "./broker_load.ts";

if (await hasRabbitmq()) {
  const cluster = await startCluster(3);
  const [a, b, c] = cluster.nodes as [RabbitmqNode, RabbitmqNode, RabbitmqNode];
  const vhost = "cluster";
  const { url } = await a.createVhost(vhost);

  describe("a cluster of three brokers with a quorum queue", () => {
    /** The urls of these nodes, to be tried in this order. */
    function urlsOf(...nodes: RabbitmqNode[]): string[] {
      return nodes.map(({ port }) => Object.assign(new URL(url), { port: String(port) }).href);
    }

    /** The node that leads a service's queue. */
    async function leaderOf(service: string): Promise<string | undefined> {
      const management = new Management(a.managementUrl, vhost);
      const path = management.path("queues", `nuropb-${service}-sq`);
      return (await management.call<{ leader?: string }>("GET", path))?.leader;
    }

    afterAll(async () => await cluster[Symbol.asyncDispose]());

    const cases: readonly { lost: string; killed: RabbitmqNode; service: string[]; caller: string[] }[] = [
      {
        lost: "the one that both are connected to and that leads the queue",
        killed: a,
        service: urlsOf(a, b, c),
        caller: urlsOf(a, c, b),
      },
      {
        lost: "the one that leads the queue, which nobody is connected to",
        killed: a,
        service: urlsOf(b, c, a),
        caller: urlsOf(c, b, a),
      },
      { lost: "the caller's", killed: b, service: urlsOf(a, b, c), caller: urlsOf(b, c, a) },
    ];

    for (const { lost, killed, service: serviceUrls, caller } of cases) {
      it(`loses a node and goes on within seconds, without losing anything confirmed: ${lost}`, async () => {
        const ledger = new Ledger();
        const name = uniqueName("service");
        const options = { name, events: ledger.events, queueType: "quorum", drainTimeout: 0 } as const;
        // The node that the queue is declared on leads it.
        await (await serve(ledger.instance, { ...options, url: urlsOf(a) })).close();
        await eventually(() => leaderOf(name), (leader) => leader === a.name);
        await using _service = await serve(ledger.instance, { ...options, url: serviceUrls });
        await using mesh = await connect(caller);
        const load = new Load(mesh, name, ledger);
        await load.goesOn();
        await killed.kill();
        const recovery = await load.nextAnswer().finally(() => killed.start());
        assert.ok(recovery <= 5_000, `It took ${recovery} ms to recover`);
        // The node is back, and nobody is bothered by it.
        await load.goesOn();
        await load.end("CONNECTION_LOST");
      });
    }

    it("keeps a command that kills its handler from being tried for ever: the delivery limit", async () => {
      const name = uniqueName("service");
      let deliveries = 0;
      const poison = async (_params: unknown, ctx: Context) => {
        deliveries++;
        await closeConnections(a.managementUrl, url, name);
        await new Promise((resolve) => ctx.signal.addEventListener("abort", resolve));
      };
      await using service = await serve({ poison, work: () => "done" }, {
        url: urlsOf(a, b, c),
        name,
        queueType: "quorum",
        deliveryLimit: 2,
        drainTimeout: 0,
      });
      await using mesh = await connect(urlsOf(b, c, a));
      await mesh.command(service.name, "poison");
      const own = async () => {
        for await (const letter of mesh.deadLetters()) if (letter.service === name) return letter;
        return undefined;
      };
      const letter = await within(own(), 30_000);
      assert.deepEqual([letter?.type, letter?.reason], ["command", "delivery_limit"]);
      assert.equal(deliveries, 3);
      assert.equal(await mesh.request(name, "work"), "done");
    });
  });
}
