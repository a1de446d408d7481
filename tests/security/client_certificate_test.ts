import assert from "node:assert/strict";
import { inspect } from "node:util";
import { connect, NuropbTransportError, serve } from "@nuropb/mesh";
import type { Mesh, TlsOptions } from "@nuropb/mesh";
import { after, before, describe, it } from "@std/testing/bdd";
import { relay } from "../conformance/listener.ts";
import { Management } from "../conformance/management.ts";
import { failure, within } from "../conformance/stage.ts";
import { uniqueName } from "../support/env.ts";
import { hasRabbitmq } from "../support/rabbitmq.ts";
import { Authority } from "./certificates.ts";
import { startTlsBroker } from "./tls_broker.ts";
import type { TlsBroker } from "./tls_broker.ts";

const HOSTS = ["localhost", "127.0.0.1"];
/** The virtual host of those who show a certificate in place of a password. */
const CERTIFIED = "certified";
const EVERYTHING = { configure: ".*", write: ".*", read: ".*" };

const authority = new Authority("authority");
const ca = authority.cert;
/** What a client shows as this account. */
const as = (commonName: string): TlsOptions => ({ ca, ...authority.issue({ commonName }) });

if (await hasRabbitmq()) {
  describe("a RabbitMQ that asks for a client certificate", () => {
    let broker: TlsBroker;
    let management: Management;

    before(async () => {
      broker = await startTlsBroker(authority.issue({ commonName: "broker", hosts: HOSTS }), ca);
      // Only those whom their certificates name may do anything there; guest may on the default virtual host alone.
      management = new Management(broker.node.managementUrl, CERTIFIED);
      await management.call("PUT", management.path("vhosts"));
      await management.makeUser("orders", EVERYTHING);
    });

    after(async () => await broker[Symbol.asyncDispose]());

    /** As an account with a password, on the default virtual host. */
    const byPassword = (account: string, host = "localhost", port = broker.port) =>
      `amqps://${account}@${host}:${port}/`;
    /** As whom the certificate names, on the other one. */
    const byCertificate = (host = "localhost", port = broker.port) => `amqps://${host}:${port}/${CERTIFIED}`;

    const refusal = (url: string, tls: TlsOptions) =>
      failure(NuropbTransportError, () => within(connect(url, { tls })));

    const works = async (url: string, tls: TlsOptions) => {
      const service = await serve({ who: () => "me" }, { url, tls, name: uniqueName("service") });
      const mesh = await connect(url, { tls });
      try {
        assert.equal(await mesh.request(service.name, "who"), "me");
      } finally {
        await Promise.all([mesh.close(), service.close()]);
      }
    };

    const comesBack = async (urlAt: (port: number) => string, tls: TlsOptions) => {
      await using link = await asyncDisposable(relay(`amqp://127.0.0.1:${broker.port}`));
      const url = urlAt(link.port);
      const service = await serve({ who: () => "me" }, { url, tls, name: uniqueName("service") });
      const mesh = await connect(url, { tls });
      try {
        for (let turn = 0; turn < 3; turn++) {
          assert.equal(await within(mesh.request(service.name, "who"), 10_000), "me");
          const lost = Promise.all([lose(mesh), lose(service.mesh)]);
          link.cut();
          await within(lost);
        }
        assert.equal(await within(mesh.request(service.name, "who"), 10_000), "me");
      } finally {
        await Promise.all([mesh.close(), service.close()]);
      }
    };

    for (const host of HOSTS) {
      it(`lets in who has one, as the account in the url (${host})`, async () => {
        await works(byPassword("guest:guest", host), as("orders"));
        await works(byPassword("guest:guest", host), as("nobody"));
      });

      it(`lets in the account that the certificate names when the url has none (${host})`, async () => {
        await works(byCertificate(host), as("orders"));
      });
    }

    const strangers: readonly (readonly [what: string, tls: () => TlsOptions])[] = [
      ["none", () => ({ ca })],
      ["one of another authority", () => ({ ca, ...new Authority("other").issue({ commonName: "orders" }) })],
      [
        "one that has expired",
        () => ({ ca, ...authority.issue({ commonName: "orders", notAfter: new Date(Date.now() - 60_000) }) }),
      ],
    ];
    for (const [what, tls] of strangers) {
      it(`refuses who has ${what}, and the error says what to do`, async () => {
        const error = await refusal(byPassword("guest:guest"), tls());
        assert.equal(error.code, "CONNECT_FAILED");
        const advice = /give a certificate that the broker accepts as tls\.cert, and its tls\.key/;
        assert.match(inspect(error), advice);
      });
    }

    it("refuses a wrong password all the same, with ACCESS_REFUSED", async () => {
      assert.equal((await refusal(byPassword("guest:wrong"), as("orders"))).code, "ACCESS_REFUSED");
    });

    it("refuses a certificate that names no account of its own, with ACCESS_REFUSED", async () => {
      for (const stranger of ["nobody", "Orders", "orders ", ""]) {
        assert.equal((await refusal(byCertificate(), as(stranger))).code, "ACCESS_REFUSED", stranger);
      }
    });

    it("refuses an account without rights on the virtual host, with ACCESS_REFUSED", async () => {
      await management.call("PUT", "users/visitor", { password_hash: "", tags: "" });
      assert.equal((await refusal(byCertificate(), as("visitor"))).code, "ACCESS_REFUSED");
    });

    it("needs no password of an account with a certificate, and takes none", async () => {
      await management.call("PUT", "users/certified", { password_hash: "", tags: "" });
      await management.call("PUT", management.path("permissions", "certified"), EVERYTHING);
      await works(byCertificate(), as("certified"));
      for (const account of ["certified:", "certified:certified"]) {
        const url = `${byPassword(account)}${CERTIFIED}`;
        assert.equal((await refusal(url, as("certified"))).code, "ACCESS_REFUSED");
      }
    });

    it("is connected to anew after each loss, with a password", async () => {
      await comesBack((port) => byPassword("guest:guest", "localhost", port), as("nobody"));
    });

    it("is connected to anew after each loss, with a certificate alone", async () => {
      await comesBack((port) => byCertificate("localhost", port), as("orders"));
    });
  });
}

function lose(mesh: Mesh): Promise<void> {
  return new Promise((resolve) => {
    mesh.addEventListener("status", ({ detail }) => {
      if (detail.state === "waiting") resolve();
    });
  });
}

async function asyncDisposable<Value extends { close(): Promise<void> }>(
  making: Promise<Value>,
): Promise<Value & AsyncDisposable> {
  const made = await making;
  return { ...made, [Symbol.asyncDispose]: () => made.close() };
}
