import assert from "node:assert/strict";
import { NuropbException } from "@nuropb/mesh";
import type { Mesh } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { Management, vhostOf } from "../conformance/management.ts";
import { eventually, stage } from "../conformance/stage.ts";
import { managementUrl, rabbitmqUrl, uniqueName } from "../support/env.ts";
import { closeConnections } from "./broker_connections.ts";
import { Ledger, Load } from "./broker_load.ts";

const [url, api] = [rabbitmqUrl(), managementUrl()];

/** Counts the connections that a mesh opens. */
function openings(mesh: Mesh): () => number {
  let count = 0;
  mesh.addEventListener("status", ({ detail }) => void (detail.state === "open" && count++));
  return () => count;
}

if (url !== undefined && api !== undefined) {
  const management = new Management(api, vhostOf(url));

  describe("a connection that an operator closes under load", () => {
    const open = stage(url);

    for (const closed of ["caller", "service"]) {
      it(`is opened again, each time: the ${closed}'s`, async () => {
        const names = { caller: uniqueName("caller"), service: uniqueName("service") };
        const ledger = new Ledger();
        const service = await open.service(ledger.instance, { name: names.service, events: ledger.events });
        const mesh = await open.mesh({ name: names.caller });
        const load = new Load(mesh, service.name, ledger);
        const opened = openings(closed === "caller" ? mesh : service.mesh);
        for (let turn = 1; turn <= 3; turn++) {
          await load.goesOn();
          await closeConnections(api, url, names[closed as keyof typeof names]);
          await eventually(opened, (count) => count === turn);
        }
        await load.goesOn();
        // A request that went to the service is delivered to it again, whatever became of its connection.
        await load.end(...(closed === "caller" ? ["CONNECTION_LOST"] : []));
      });
    }
  });

  describe("a queue that an operator deletes under a service", () => {
    const open = stage(url);

    it("is there again with its bindings, each time, and requests meanwhile are told that it is not", async () => {
      const topic = uniqueName("topic");
      const events: unknown[] = [];
      const service = await open.service({ work: () => "done" }, {
        events: { [topic]: (event) => void events.push(event) },
      });
      const mesh = await open.mesh();
      await mesh.describe(service.name);
      for (let turn = 1; turn <= 3; turn++) {
        await management.call("DELETE", management.path("queues", `nuropb-${service.name}-sq`));
        const ask = () => mesh.request(service.name, "work").catch((error: NuropbException) => error.code);
        const answer = await eventually(ask, (outcome) => outcome !== "NOT_DELIVERED");
        assert.equal(answer, "done");
        await mesh.publish(topic, turn);
        await eventually(() => events.at(-1), (event) => event === turn);
        assert.equal(service.mesh.status.state, "open");
      }
    });
  });
}
