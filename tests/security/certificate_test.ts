import assert from "node:assert/strict";
import { connect, NuropbTransportError } from "@nuropb/mesh";
import type { Mesh, MeshStatus, TlsOptions } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { listen } from "../conformance/listener.ts";
import { vhostOf } from "../conformance/management.ts";
import { failure, stage, within } from "../conformance/stage.ts";
import { rabbitmqUrl } from "../support/env.ts";
import { Authority, selfSigned } from "./certificates.ts";
import type { Certificate } from "./certificates.ts";
import { runScript } from "./child.ts";
import { tlsRelay } from "./tls_relay.ts";
import type { TlsRelay } from "./tls_relay.ts";

const url = rabbitmqUrl();
const HOSTS = ["localhost", "127.0.0.1"];
const HOUR_MS = 3_600_000;

const authority = new Authority("authority");
const other = new Authority("other authority");
const trusting: TlsOptions = { ca: authority.cert };
const certificate = authority.issue({ commonName: "broker", hosts: HOSTS });
/** With one, a runtime may go another way to open the connection. */
const client = authority.issue({ commonName: "client" });
const fromYesterday = new Date(Date.now() - HOUR_MS);
const unsigned = selfSigned({ commonName: "broker", hosts: HOSTS });

type Waiting = Extract<MeshStatus, { state: "waiting" }>;

/** Waits until a mesh has lost its connection, or does not get another one for this reason. */
function waits(mesh: Mesh, reason = /./): Promise<Waiting> {
  return new Promise((resolve) => {
    mesh.addEventListener("status", ({ detail }) => {
      if (detail.state === "waiting" && reason.test(detail.error.message)) resolve(detail);
    });
  });
}

interface Refused {
  readonly certificate: Certificate;
  readonly tls?: TlsOptions;
  readonly advice: RegExp;
}

const giveAuthority = /give the authority that signed the broker's certificate as tls\.ca/;
const rightName = /connect by a name that is in the broker's certificate/;

const refused: Readonly<Record<string, Refused>> = {
  "of an authority that the runtime does not know": { certificate, advice: giveAuthority },
  "of another authority than the given one": { certificate, tls: { ca: other.cert }, advice: giveAuthority },
  "of another authority with the same name": {
    certificate: new Authority("authority").issue({ commonName: "broker", hosts: HOSTS }),
    tls: trusting,
    advice: giveAuthority,
  },
  "that signed itself": { certificate: unsigned, tls: trusting, advice: giveAuthority },
  "that is another host's": {
    certificate: authority.issue({ commonName: "broker", hosts: ["broker.example", "127.0.0.2"] }),
    tls: trusting,
    advice: rightName,
  },
  "that has expired": {
    certificate: authority.issue({ commonName: "broker", hosts: HOSTS, notAfter: fromYesterday }),
    tls: trusting,
    advice: /renew the broker's certificate, or set this machine's clock|look whether it has expired/,
  },
};

if (url !== undefined) {
  const vhost = encodeURIComponent(vhostOf(url));
  const urlOf = ({ port }: Pick<TlsRelay, "port">, host = "localhost") =>
    `amqps://guest:guest@${host}:${port}/${vhost}`;

  describe("an amqps: broker's certificate", () => {
    const open = stage(url);

    for (
      const [host, tls] of HOSTS.flatMap((host) =>
        [[host, trusting], [host, { ...trusting, ...client }]] as const
      )
    ) {
      const shown = tls.cert === undefined ? "" : " by who has one too";
      it(`is taken from ${host}${shown} when its authority is given, and messages of all sizes go over it`, async () => {
        await using relay = await tlsRelay(url, certificate);
        const service = await open.service(
          { echo: (params: unknown) => params },
          { url: urlOf(relay, host), tls },
        );
        const mesh = await connect(urlOf(relay, host), { tls });
        for (const length of [1, 100_000, 4_000_000]) {
          const params = { text: "x".repeat(length) };
          assert.deepEqual(await mesh.request(service.name, "echo", params), params);
        }
        await Promise.all([mesh.close(), service.close()]);
        assert.equal(relay.connections(), 2);
      });
    }

    it("is taken when its authority is one of several", async () => {
      await using relay = await tlsRelay(url, certificate);
      const mesh = await connect(urlOf(relay), { tls: { ca: `${other.cert}${authority.cert}` } });
      await mesh.close();
    });

    it("is taken when it signed itself and is given as the authority", async () => {
      await using relay = await tlsRelay(url, unsigned);
      const mesh = await connect(urlOf(relay), { tls: { ca: unsigned.cert } });
      await mesh.close();
    });

    for (const [what, { certificate, tls, advice }] of Object.entries(refused)) {
      for (const host of HOSTS) {
        it(`${what} is refused at ${host}, and the error says what to do`, async () => {
          await using relay = await tlsRelay(url, certificate);
          for (const options of [tls === undefined ? {} : { tls }, { tls: { ...tls, ...client } }]) {
            const connecting = () => within(connect(urlOf(relay, host), options));
            const { code, message } = await failure(NuropbTransportError, connecting);
            assert.equal(code, "CONNECT_FAILED");
            assert.match(message, advice);
            assert.match(message, new RegExp(`^No broker can be reached at ${host}:${relay.port}: `));
          }
        });
      }
    }

    it("is checked whatever else the options say", async () => {
      await using relay = await tlsRelay(url, unsigned);
      await using elsewhere = await tlsRelay(url, refused["that is another host's"]!.certificate);
      const tls = {
        ...trusting,
        rejectUnauthorized: false,
        checkServerIdentity: () => undefined,
        unsafelyDisableHostnameVerification: true,
        servername: "broker.example",
      };
      for (const given of [tls, { ...tls, ...client }]) {
        for (const { port } of [relay, elsewhere]) {
          await failure(NuropbTransportError, () => within(connect(urlOf({ port }), { tls: given })));
        }
      }
    });

    it("is checked whatever the environment says", async () => {
      await using relay = await tlsRelay(url, certificate);
      const env = { NODE_TLS_REJECT_UNAUTHORIZED: "0" };
      for (const tls of [{}, client]) {
        const without = await runScript("connect_script.ts", [urlOf(relay), tls], env);
        assert.match(without.output, /^CONNECT_FAILED: .*tls\.ca/m);
      }
      const given = await runScript("connect_script.ts", [urlOf(relay), trusting], env);
      assert.match(given.output, /^open$/m);
    });

    for (const query of ["insecure", "verify=verify_none", "cacertfile=/dev/null", "tls=false"]) {
      it(`cannot be let through by ?${query} in the url`, async () => {
        const { code, message } = await failure(
          NuropbTransportError,
          () => connect(`amqps://guest:guest@localhost:1/${vhost}?${query}`, { tls: trusting }),
        );
        assert.equal(code, "INVALID_URL");
        assert.match(message, /may not have a query: use the options of connect\(\)/);
      });
    }

    it("is taken each time that the connection is opened anew", async () => {
      await using relay = await tlsRelay(url, certificate);
      const service = await open.service({ who: () => "me" }, { url: urlOf(relay), tls: trusting });
      const mesh = await connect(urlOf(relay), { tls: trusting });
      for (let turn = 1; turn <= 3; turn++) {
        assert.equal(await mesh.request(service.name, "who"), "me");
        const lost = Promise.all([mesh, service.mesh].map((mesh) => waits(mesh)));
        relay.cut();
        await within(lost);
        assert.equal(await within(mesh.request(service.name, "who"), 10_000), "me");
      }
      await mesh.close();
      assert.equal(relay.connections(), 8);
    });

    it("is checked each time that the connection is opened anew", async () => {
      const relay = await tlsRelay(url, certificate);
      const mesh = await connect(urlOf(relay), { tls: trusting });
      await relay[Symbol.asyncDispose]();
      {
        await using _impostor = await tlsRelay(url, unsigned, relay.port);
        const { error } = await within(waits(mesh, giveAuthority), 10_000);
        assert.equal(error.code, "CONNECT_FAILED");
      }
      await using _again = await tlsRelay(url, certificate, relay.port);
      await within(mesh.ready(), 10_000);
      await mesh.close();
    });
  });

  describe("amqps: gives up", () => {
    it("on a port that speaks plain AMQP", async () => {
      const plain = new URL(url);
      const secure = `amqps://guest:guest@${plain.hostname}:${plain.port}/${vhost}`;
      const connecting = () => within(connect(secure, { tls: trusting }));
      assert.equal((await failure(NuropbTransportError, connecting)).code, "CONNECT_FAILED");
    });

    it("on a port that is silent, within connectTimeout", async () => {
      const listener = await listen();
      try {
        const connecting = () =>
          within(connect(urlOf(listener), { tls: trusting, connectTimeout: 300 }), 3_000);
        assert.equal((await failure(NuropbTransportError, connecting)).code, "CONNECT_FAILED");
      } finally {
        await listener.close();
      }
    });

    it("on a port that closes the connection", async () => {
      const listener = await listen((socket) => void socket.destroy());
      try {
        const connecting = () => within(connect(urlOf(listener), { tls: trusting }));
        assert.equal((await failure(NuropbTransportError, connecting)).code, "CONNECT_FAILED");
      } finally {
        await listener.close();
      }
    });
  });

  describe("amqp: gives up", () => {
    it("on a port that speaks TLS", async () => {
      await using relay = await tlsRelay(url, certificate);
      const plain = urlOf(relay).replace("amqps:", "amqp:");
      const connecting = () => within(connect(plain, { connectTimeout: 2_000 }));
      assert.equal((await failure(NuropbTransportError, connecting)).code, "CONNECT_FAILED");
    });
  });
}
