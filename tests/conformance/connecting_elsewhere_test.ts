import assert from "node:assert/strict";
import process from "node:process";
import { inspect } from "node:util";
import { connect, NuropbTransportError, serve } from "@nuropb/mesh";
import type { NuropbErrorCode } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { uniqueName, urls } from "../support/env.ts";
import { closedPort, listen } from "./listener.ts";
import { closing, eventually, failure, reasonOf, within } from "./stage.ts";

const SECRET = "s3cr3t";
const urlOf = (port: number) => `amqp://user:${SECRET}@127.0.0.1:${port}/nuropb`;

for (const { name, url } of urls()) {
  describe(`connecting to ${name} among others`, () => {
    const opening = closing();

    it("tries the urls of a list in turn until one answers", async () => {
      const [refused, silent] = [await closedPort(), await opening(listen())];
      const list = [urlOf(refused), urlOf(silent.port), url, urlOf(refused)];
      const mesh = await opening(connect(list, { connectTimeout: 1_500 }));
      const target = uniqueName("service");
      await opening(serve({ work: () => "done" }, { url: list, name: target, connectTimeout: 1_500 }));
      assert.equal(await mesh.request(target, "work"), "done");
    });

    it("takes the url that the environment names when it is given none", async () => {
      const before = process.env["NUROPB_URL"];
      process.env["NUROPB_URL"] = url;
      try {
        const target = uniqueName("service");
        await opening(serve({ work: () => "done" }, { name: target }));
        const mesh = await opening(connect());
        assert.equal(await mesh.request(target, "work"), "done");
      } finally {
        if (before === undefined) delete process.env["NUROPB_URL"];
        else process.env["NUROPB_URL"] = before;
      }
    });
  });
}

describe("connecting to what is no broker", () => {
  const opening = closing();
  const listening: typeof listen = (onconnection) => opening(listen(onconnection));

  /** The failure, which must come soon and keep the password secret. */
  async function refusal(operation: () => Promise<unknown>, code: NuropbErrorCode, text: string) {
    const error = await failure(NuropbTransportError, () => within(operation(), 3_000));
    assert.equal(error.code, code, error.message);
    assert.ok(error.message.includes(text), error.message);
    assert.ok(!inspect(error, { depth: 20 }).includes(SECRET), "the password stays secret");
  }

  it("fails at once where nobody listens", async () => {
    const port = await closedPort();
    await refusal(() => connect(urlOf(port)), "CONNECT_FAILED", `127.0.0.1:${port}`);
    await refusal(
      () => serve({ work() {} }, { url: urlOf(port), name: "x" }),
      "CONNECT_FAILED",
      `127.0.0.1:${port}`,
    );
  });

  it("fails with the last refusal where nobody of a list listens", async () => {
    const ports = [await closedPort(), await closedPort()];
    await refusal(() => connect(ports.map(urlOf)), "CONNECT_FAILED", "127.0.0.1");
  });

  it("fails where the host is unknown", async () => {
    const url = `amqp://user:${SECRET}@nuropb.invalid/nuropb`;
    await refusal(() => connect(url), "CONNECT_FAILED", "nuropb.invalid:5672");
  });

  it("fails after connectTimeout where nobody answers, and hangs up", async () => {
    const { port, connections } = await listening();
    await refusal(() => connect(urlOf(port), { connectTimeout: 100 }), "CONNECT_FAILED", "100 ms");
    await eventually(() => connections, ({ opened, open }) => opened === 1 && open === 0);
  });

  it("rejects with the reason of its signal where nobody answers, and hangs up", async () => {
    const { port, connections } = await listening();
    const controller = new AbortController();
    const reason = reasonOf(() => connect(urlOf(port), { signal: controller.signal }));
    await eventually(() => connections.open, (open) => open === 1);
    const own = new Error("enough");
    controller.abort(own);
    assert.equal(await within(reason), own);
    await eventually(() => connections.open, (open) => open === 0);
  });

  it("stops at a signal even when there are more urls in the list", async () => {
    const [first, second] = [await listening(), await listening()];
    const controller = new AbortController();
    const reason = reasonOf(() =>
      connect([urlOf(first.port), urlOf(second.port)], { signal: controller.signal })
    );
    await eventually(() => first.connections.open, (open) => open === 1);
    controller.abort("enough");
    assert.equal(await within(reason), "enough");
    assert.equal(second.connections.opened, 0);
  });

  const impostors: [string, (socket: { write(bytes: Uint8Array): void; end(): void }) => void][] = [
    ["hangs up", (socket) => socket.end()],
    ["speaks HTTP", (socket) => socket.write(new TextEncoder().encode("HTTP/1.1 400 Bad Request\r\n\r\n"))],
    ["wants another version of AMQP", (socket) => {
      socket.write(new Uint8Array([65, 77, 81, 80, 3, 1, 0, 0]));
      socket.end();
    }],
    ["announces a frame of 4 GB", (socket) => socket.write(new Uint8Array([1, 0, 0, 255, 255, 255, 255, 0]))],
    [
      "sends a frame without its end",
      (socket) => socket.write(new Uint8Array([1, 0, 0, 0, 0, 0, 1, 7, 7, 7])),
    ],
    ["sends a method that does not exist", (socket) => {
      socket.write(new Uint8Array([1, 0, 0, 0, 0, 0, 4, 0, 99, 0, 99, 0xce]));
      socket.end();
    }],
    ["sends noise", (socket) => {
      const noise = Uint8Array.from({ length: 5_000 }, (_, index) => (index * 89) % 251);
      socket.write(noise);
      socket.end();
    }],
  ];
  for (const [what, behave] of impostors) {
    it(`fails soon where someone ${what}, and hangs up`, async () => {
      const { port, connections } = await listening(behave);
      await refusal(() => connect(urlOf(port), { connectTimeout: 1_000 }), "CONNECT_FAILED", "broker");
      await eventually(() => connections.open, (open) => open === 0);
    });
  }
});
