import assert from "node:assert/strict";
import { connect, NuropbTransportError } from "@nuropb/mesh";
import type { CallOptions, ServeOptions } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { rabbitmqUrl } from "../support/env.ts";
import { relay } from "./listener.ts";
import { closing, failure, signal, stage, within } from "./stage.ts";

const url = rabbitmqUrl();

if (url !== undefined) {
  describe("a request over a connection to RabbitMQ that is cut", () => {
    const open = stage(url);
    const opening = closing();

    /** Has the caller's connection cut while a method runs, which then returns how often it has run. */
    async function cut(options: CallOptions, more: ServeOptions = {}) {
      let runs = 0;
      const [begun, end] = [signal(), signal()];
      const service = await open.service({
        work: async () => {
          runs++;
          begun.send();
          await end.promise;
          return runs;
        },
      }, more);
      const line = await opening(relay(url!));
      const mesh = await opening(connect(line.url));
      const answer = mesh.request<number>(service.name, "work", {}, options);
      answer.catch(() => {});
      await within(begun.promise);
      line.cut();
      return { answer, mesh, end, runs: () => runs };
    }

    it("fails when it is not idempotent", async () => {
      const { answer, end } = await cut({});
      const error = await failure(NuropbTransportError, () => within(answer));
      assert.equal(error.code, "CONNECTION_LOST");
      end.send();
    });

    for (const encrypted of [false, true]) {
      const what = encrypted ? "encrypted" : "plain";
      const methods = { work: { encrypted } } as object;

      it(`is sent again when it is idempotent, and runs twice: ${what}`, async () => {
        const { answer, mesh, end, runs } = await cut({ idempotent: true }, { methods });
        await within(mesh.ready());
        end.send();
        assert.equal(await within(answer), 2);
        assert.equal(runs(), 2);
      });

      it(`runs once where the service has dedupe: ${what}`, async () => {
        const { answer, mesh, end, runs } = await cut({ idempotent: true }, { methods, dedupe: {} });
        await within(mesh.ready());
        end.send();
        assert.equal(await within(answer), 1);
        assert.equal(runs(), 1);
      });
    }
  });
}
