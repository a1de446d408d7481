import assert from "node:assert/strict";
import { connect } from "@nuropb/mesh";
import type { Context, Mesh } from "@nuropb/mesh";
import { afterAll, afterEach, describe, it } from "@std/testing/bdd";
import { eventually, pass, signal, stage, within } from "../conformance/stage.ts";
import { Log } from "../conformance/support_log.ts";
import { uniqueName } from "../support/env.ts";
import { hasRabbitmq, startRabbitmq } from "../support/rabbitmq.ts";
import { ackRelay } from "./broker_ack_relay.ts";
import type { AckRelay } from "./broker_ack_relay.ts";
import { Ledger, Load } from "./broker_load.ts";

if (await hasRabbitmq()) {
  const node = await startRabbitmq();
  const { url } = await node.createVhost("channel");

  describe("a channel that the broker closes", () => {
    const open = stage(url);
    let relays: AckRelay[] = [];
    afterEach(async () => {
      await Promise.all(relays.map((relay) => relay.close()));
      relays = [];
    });
    afterAll(async () => await node[Symbol.asyncDispose]());

    async function relayed(): Promise<AckRelay> {
      const relay = await ackRelay(url);
      relays.push(relay);
      return relay;
    }

    function statesOf(mesh: Mesh): string[] {
      const states: string[] = [];
      mesh.addEventListener("status", ({ detail }) => states.push(detail.state));
      return states;
    }

    it("for a bad ack of the service, under load: all is delivered again, and nothing fails", async () => {
      const relay = await relayed();
      const ledger = new Ledger();
      const name = uniqueName("service");
      const log = new Log();
      const options = { name, events: ledger.events, url: relay.url, logger: log };
      const service = await open.service(ledger.instance, options);
      const states = statesOf(service.mesh);
      const mesh = await open.mesh();
      const load = new Load(mesh, name, ledger);
      const closings = () =>
        log.of("warn").filter(({ fields }) => /unknown delivery tag/.test(String(fields.reason)));
      for (let turn = 1; turn <= 3; turn++) {
        await load.goesOn();
        relay.acknowledge(`consumes nuropb-${name}-sq`);
        await eventually(closings, ({ length }) => length === turn);
      }
      await load.goesOn();
      await load.end();
      assert.deepEqual(states, []);
    });

    it("for a bad ack of the caller: it asks and tells again, over the same connection", async () => {
      const relay = await relayed();
      const ledger = new Ledger();
      const begun = signal();
      const hang = () => {
        begun.send();
        return new Promise(() => {});
      };
      const service = await open.service({ ...ledger.instance, hang }, { drainTimeout: 0 });
      await using mesh = await connect(relay.url);
      const states = statesOf(mesh);
      const hanging = mesh.request(service.name, "hang").catch((error: Error) => error);
      await within(begun.promise);
      relay.acknowledge("consumes amq.rabbitmq.reply-to");
      // Its answer will not come any more, which it is told at once.
      const error = await within(hanging) as Error;
      assert.equal(error.name, "NuropbTransportError");
      assert.equal(await within(mesh.request(service.name, "work", { number: 1 })), 1);
      await mesh.command(service.name, "note", { number: 2 });
      relay.acknowledge("confirms");
      await within(mesh.command(service.name, "note", { number: 3 }));
      await eventually(() => ledger.handled.has(2) && ledger.handled.has(3), (handled) => handled);
      assert.deepEqual(states, []);
    });

    it("for a message that is not done in time: it is delivered again, and the service goes on", async () => {
      await node.control(
        "eval",
        "application:set_env(rabbit, consumer_timeout, 1000), application:set_env(rabbit, channel_tick_interval, 200).",
      );
      const deliveries: boolean[] = [];
      const service = await open.service({
        slow: async (_params: unknown, { redelivered, signal }: Context) => {
          deliveries.push(redelivered);
          if (redelivered) return "the second time";
          await pass(5_000);
          return signal.aborted ? "aborted" : "too late";
        },
        quick: () => "quick",
      }, { drainTimeout: 0 });
      const states = statesOf(service.mesh);
      const mesh = await open.mesh();
      const slow = mesh.request(service.name, "slow");
      assert.equal(await mesh.request(service.name, "quick"), "quick");
      assert.equal(await within(slow, 10_000), "the second time");
      assert.equal(await mesh.request(service.name, "quick"), "quick");
      assert.deepEqual(deliveries, [false, true]);
      assert.deepEqual(states, []);
    });
  });
}
