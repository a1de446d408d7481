import assert from "node:assert/strict";
import { NuropbTransportError } from "@nuropb/mesh";
import type { Service } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { within } from "../conformance/stage.ts";
import { rabbitmqUrl, uniqueName } from "../support/env.ts";
import type { Direction, FaultProxy } from "./fault_proxy.ts";
import { Ledger, linkStage } from "./link_stage.ts";

const url = rabbitmqUrl();

/** More than RabbitMQ takes in one frame. */
const LARGE = "x".repeat(150_000);

/** What is sent. The filler shows whether it came whole. */
interface Note {
  readonly id: string;
  readonly filler: string;
}

/** A service that writes down what it handles, and what goes to it over its own link. */
interface Notary {
  readonly service: Service;
  readonly topic: string;
  readonly ledger: Ledger;
}

const ways: readonly { readonly to: string; readonly direction: Direction }[] = [
  { to: "the broker", direction: "toServer" },
  { to: "the client", direction: "toClient" },
];

/** How many links are tried at once. */
const AT_ONCE = 10;

/** So many numbers below a limit, evenly spread from 0. */
function spread(count: number, limit: number): number[] {
  return Array.from({ length: count }, (_, index) => Math.floor(index * limit / count));
}

/** Tries each place, some of them at once. */
async function tryEach(places: readonly number[], attempt: (place: number) => Promise<void>): Promise<void> {
  const left = [...places];
  const tryNext = async () => {
    for (let place = left.shift(); place !== undefined; place = left.shift()) await attempt(place);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, tryNext));
}

if (url !== undefined) {
  describe("a link that is cut at any byte", () => {
    const open = linkStage(url);

    async function notary(proxy: FaultProxy): Promise<Notary> {
      const [topic, ledger] = [uniqueName("topic"), new Ledger()];
      const note = ({ id, filler }: Note) => {
        assert.ok(filler === "" || filler === LARGE);
        ledger.handle(id);
        return id;
      };
      const service = await open.service(proxy, { note }, {
        events: { [topic]: (event) => void note(event as Note) },
      });
      return { service, topic, ledger };
    }

    /** Sends one message of each kind, small ones and then large ones, and waits for all that is to come of it. */
    async function converse({ service, topic, ledger }: Notary): Promise<void> {
      const { mesh, name } = service;
      const request = async (filler: string) => {
        const id = ledger.send("request");
        assert.equal(await mesh.request(name, "note", { id, filler }, { idempotent: true }), id);
      };
      await within(
        Promise.all(["", LARGE].flatMap((filler) => [
          mesh.command(name, "note", { id: ledger.send("command"), filler }),
          mesh.publish(topic, { id: ledger.send("event"), filler }),
          request(filler),
        ])),
        30_000,
      );
      await ledger.settle();
    }

    for (const { to, direction } of ways) {
      it(`opens anew, or refuses to open, when it is on its way to ${to} while a service is set up`, async () => {
        const measured = await open.proxy();
        await notary(measured);
        await Promise.all(
          spread(40, measured.stats[direction]).map(async (place) => {
            const proxy = await open.proxy();
            const cut = proxy.cutAfter(place, direction);
            const opened = await within(
              notary(proxy).catch((error: unknown) => {
                assert.ok(error instanceof NuropbTransportError, String(error));
              }),
              30_000,
            );
            await within(cut);
            await converse(opened ?? await notary(proxy));
          }),
        );
      });

      it(`loses and invents nothing when messages are on their way to ${to}`, async () => {
        const measured = await open.proxy();
        const sound = await notary(measured);
        await sound.service.mesh.describe(sound.service.name);
        const before = measured.stats[direction];
        await converse(sound);
        const total = measured.stats[direction] - before;
        // Closely where there are many small frames, and now and then within the large ones.
        await tryEach([...spread(26, 1_300), ...spread(14, total)], async (place) => {
          const proxy = await open.proxy();
          const cuttable = await notary(proxy);
          await cuttable.service.mesh.describe(cuttable.service.name);
          const cut = proxy.cutAfter(place, direction);
          await converse(cuttable);
          await within(cut);
        });
      });
    }
  });
}
