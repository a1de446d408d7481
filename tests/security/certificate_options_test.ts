import assert from "node:assert/strict";
import { connect, NuropbTransportError, NuropbValidationError } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { failure, within } from "../conformance/stage.ts";
import { rabbitmqUrl } from "../support/env.ts";
import { Authority } from "./certificates.ts";
import { tlsRelay } from "./tls_relay.ts";

const url = rabbitmqUrl();
const authority = new Authority("authority");
const { cert, key } = authority.issue({ commonName: "orders" });
const ca = authority.cert;

describe("a client certificate", () => {
  for (
    const [what, tls] of Object.entries({
      "without its key": { ca, cert },
      "without itself, but a key": { ca, key },
    })
  ) {
    it(`${what} is refused, with INVALID_ARGUMENT`, async () => {
      const error = await failure(NuropbValidationError, () => connect("amqps://127.0.0.1:1/mesh", { tls }));
      assert.equal(error.code, "INVALID_ARGUMENT");
      assert.match(error.message, /tls\.cert|tls\.key/);
    });
  }
});

if (url !== undefined) {
  const { host, pathname } = new URL(url);

  describe("a url without an account, with a client certificate", () => {
    it("is the default account's when it is amqp:, where no certificate is shown", async () => {
      const mesh = await within(connect(`amqp://${host}${pathname}`, { tls: { ca, cert, key } }), 10_000);
      assert.equal(mesh.status.state, "open");
      await mesh.close();
    });

    it("is refused, and told why, by a broker that knows no account by its certificate", async () => {
      await using relay = await tlsRelay(
        url,
        authority.issue({ commonName: "broker", hosts: ["localhost"] }),
      );
      const connecting = () =>
        connect(`amqps://localhost:${relay.port}${pathname}`, { tls: { ca, cert, key } });
      const { message } = await failure(NuropbTransportError, () => within(connecting(), 10_000));
      assert.match(message, /EXTERNAL/);
    });
  });
}
