import assert from "node:assert/strict";
import { inspect } from "node:util";
import { connect, serve } from "@nuropb/mesh";
import type { Mesh, MeshStatus, NuropbTransportError } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { Management, urlWith, vhostOf } from "../conformance/management.ts";
import { eventually, within } from "../conformance/stage.ts";
import { Log } from "../conformance/support_log.ts";
import { managementUrl, rabbitmqUrl, uniqueName } from "../support/env.ts";
import { closeConnections } from "./broker_connections.ts";

const [url, api] = [rabbitmqUrl(), managementUrl()];

/** How often a refused connection is tried again before the cause is taken away. */
const REFUSALS = 3;
const EVERYTHING = { configure: ".*", write: ".*", read: ".*" };

/** A service and its caller on a connection each, and all that they say of themselves. */
async function pairAt(url: string) {
  const log = new Log();
  const statuses: MeshStatus[][] = [];
  const name = uniqueName("service");
  const service = await serve({ work: () => "done" }, { url, name, logger: log });
  const mesh = await connect(url, { name, logger: log });
  for (const each of [mesh, service.mesh]) {
    const own: MeshStatus[] = [];
    statuses.push(own);
    each.addEventListener("status", ({ detail }) => void own.push(detail));
  }
  await mesh.describe(name);
  const close = async () => {
    await mesh.close();
    await service.close();
  };
  return { name, mesh, close, log, statuses };
}

/** Waits until each of them was refused a few times for this reason. */
async function refused(statuses: MeshStatus[][], code: NuropbTransportError["code"]): Promise<void> {
  const refusals = () =>
    statuses.map((own) =>
      own.filter((status) => status.state === "waiting" && status.error.code === code).length
    );
  await eventually(refusals, (counts) => counts.every((count) => count >= REFUSALS), 20_000);
}

/** That it waits longer each time, at random between half and all of a time that doubles. */
function backsOff(statuses: MeshStatus[][]): void {
  for (const status of statuses.flat()) {
    if (status.state !== "waiting") continue;
    const longest = 100 * 2 ** (status.attempt - 1);
    assert.ok(
      status.delay >= longest / 2 && status.delay <= longest,
      `Waited ${status.delay} of ${longest} ms`,
    );
  }
}

async function works({ mesh, name }: { mesh: Mesh; name: string }): Promise<void> {
  // The caller may be back before the service is.
  const ask = () => mesh.request(name, "work").catch(({ code }: NuropbTransportError) => code);
  assert.equal(await eventually(ask, (outcome) => outcome !== "NOT_DELIVERED"), "done");
  await mesh.command(name, "work");
}

if (url !== undefined && api !== undefined) {
  describe("a mesh whose broker turns it away", () => {
    it("as its password was changed, says so without the password, and is back with the old one", async () => {
      const management = new Management(api, vhostOf(url));
      const user = uniqueName("user");
      const [password, other] = [uniqueName("secret"), uniqueName("other")];
      const setPassword = (password: string) =>
        management.call("PUT", `users/${user}`, { password, tags: "" });
      await setPassword(password);
      await management.call("PUT", management.path("permissions", user), EVERYTHING);
      const pair = await pairAt(urlWith(url, { user, password }));
      try {
        await setPassword(other);
        await closeConnections(api, url, pair.name);
        await refused(pair.statuses, "ACCESS_REFUSED");
        backsOff(pair.statuses);
        const waiting = pair.mesh.request(pair.name, "work");
        await setPassword(password);
        assert.equal(await within(waiting, 20_000), "done");
        await works(pair);
        const said = pair.log.text() + inspect(pair.statuses, { depth: Infinity, showHidden: true });
        assert.match(said, /ACCESS_REFUSED/);
        for (const secret of [password, other]) assert.ok(!said.includes(secret), said);
      } finally {
        await pair.close();
        await management.deleteUser(user);
      }
    });

    it("as its virtual host was deleted, is back with its queue once there is one again", async () => {
      const management = new Management(api, uniqueName("vhost"));
      const make = async () => {
        await management.call("PUT", management.path("vhosts"));
        await management.call("PUT", management.path("permissions", "guest"), EVERYTHING);
      };
      await make();
      const pair = await pairAt(urlWith(url, { vhost: management.vhost }));
      try {
        await management.deleteVhost();
        await refused(pair.statuses, "VHOST_NOT_FOUND");
        backsOff(pair.statuses);
        await make();
        await within(pair.mesh.ready(), 20_000);
        await works(pair);
      } finally {
        await pair.close();
        await management.deleteVhost();
      }
    });
  });
}
