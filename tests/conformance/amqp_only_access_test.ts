import assert from "node:assert/strict";
import { inspect } from "node:util";
import { connect, NuropbTransportError, serve, setupMesh } from "@nuropb/mesh";
import type { Context, NuropbErrorCode } from "@nuropb/mesh";
import { afterEach, describe, it } from "@std/testing/bdd";
import { managementUrl, rabbitmqUrl, uniqueName } from "../support/env.ts";
import { closedPort, listen } from "./listener.ts";
import { Management, urlWith, vhostOf } from "./management.ts";
import { failure, stage, take, within } from "./stage.ts";

const url = rabbitmqUrl();
const api = managementUrl();

const SECRET = "s3cr3t";

async function refusal(operation: () => Promise<unknown>, code: NuropbErrorCode, text: string | RegExp) {
  const error = await failure(NuropbTransportError, () => within(operation()));
  assert.equal(error.code, code, error.message);
  if (typeof text === "string") assert.ok(error.message.includes(text), error.message);
  else assert.match(error.message, text);
  assert.ok(!inspect(error, { depth: 20 }).includes(SECRET), "the password stays secret");
}

if (url !== undefined) {
  describe("RabbitMQ refuses", () => {
    it("wrong credentials, with ACCESS_REFUSED", async () => {
      const wrong = urlWith(url, { password: SECRET });
      await refusal(() => connect(wrong), "ACCESS_REFUSED", "ACCESS_REFUSED");
      await refusal(
        () => serve({ work() {} }, { url: wrong, name: "service" }),
        "ACCESS_REFUSED",
        "ACCESS_REFUSED",
      );
    });

    it("an unknown user, with ACCESS_REFUSED", async () => {
      await refusal(() => connect(urlWith(url, { user: "nobody", password: SECRET })), "ACCESS_REFUSED", /./);
    });

    it("a virtual host that does not exist, with VHOST_NOT_FOUND and its name", async () => {
      const vhost = uniqueName("missing");
      await refusal(() => connect(urlWith(url, { vhost })), "VHOST_NOT_FOUND", vhost);
      const odd = `${vhost}/with %`;
      await refusal(() => connect(urlWith(url, { vhost: odd })), "VHOST_NOT_FOUND", odd);
    });

    it("a quorum queue for a service with a classic one, with PRECONDITION_FAILED", async () => {
      const name = uniqueName("service");
      const service = await serve({ work() {} }, { url, name });
      try {
        const quorum = () => serve({ work() {} }, { url, name, queueType: "quorum" });
        await refusal(quorum, "PRECONDITION_FAILED", `nuropb-${name}-sq`);
        assert.equal(await service.mesh.request(name, "work"), null);
      } finally {
        await service.close();
      }
    });

    it("to consume a queue that does not exist, with NOT_FOUND", async () => {
      const name = uniqueName("service");
      const without = () => serve({ work() {} }, { url, name, declare: false });
      await refusal(without, "NOT_FOUND", `nuropb-${name}-sq`);
    });
  });

  describe("setupMesh", () => {
    const hasNoApi = async () => ({ managementUrl: `http://127.0.0.1:${await closedPort()}` });

    it("says clearly that the management API does not answer", async () => {
      const options = await hasNoApi();
      await refusal(() => setupMesh(url, options), "CONNECT_FAILED", "enable the plugin rabbitmq_management");
      await refusal(() => setupMesh(url, options), "CONNECT_FAILED", options.managementUrl);
    });

    it("gives up when the management API is silent", async () => {
      const { port, close } = await listen();
      const options = { managementUrl: `http://127.0.0.1:${port}`, connectTimeout: 200 };
      await refusal(() => setupMesh(url, options), "CONNECT_FAILED", "management API does not answer");
      await close();
    });
  });
}

if (url !== undefined && api !== undefined) {
  const management = new Management(api, vhostOf(url));
  const everything = { configure: ".*", write: ".*", read: ".*" };
  const nothingToConfigure = { configure: "^$", write: ".*", read: ".*" };

  describe("an account", () => {
    const open = stage(url);
    let users: string[] = [];
    afterEach(async () => {
      await Promise.all(users.splice(0).map((user) => management.deleteUser(user)));
      users = [];
    });
    const accountWith = async (permissions: typeof everything) => {
      const user = uniqueName("user");
      users.push(user);
      await management.makeUser(user, permissions);
      return urlWith(url, { user, password: user });
    };

    it("without any right on the virtual host is refused, with ACCESS_REFUSED", async () => {
      const user = uniqueName("user");
      users.push(user);
      await management.call("PUT", `users/${user}`, { password: user, tags: "" });
      const error = await failure(
        NuropbTransportError,
        () => connect(urlWith(url, { user, password: user })),
      );
      assert.equal(error.code, "ACCESS_REFUSED");
    });

    for (const options of [{}, { declare: false }]) {
      it(`without configure permission calls, tells and publishes with ${inspect(options)}`, async () => {
        const service = await open.service({ echo: (params: unknown) => params });
        const subscription = service.mesh.subscribe("account.#");
        await subscription.ready;
        const mesh = await connect(await accountWith(nothingToConfigure), options);
        try {
          assert.deepEqual(await mesh.request(service.name, "echo", { a: 1 }), { a: 1 });
          await mesh.command(service.name, "echo");
          await mesh.publish("account.event", 1);
          assert.equal((await take(subscription, 1))[0]?.event, 1);
        } finally {
          await mesh.close();
        }
      });
    }

    it("without configure permission hosts a service that was declared before", async () => {
      const { name } = await open.service({ who: () => "declared" });
      const restricted = await accountWith(nothingToConfigure);
      await failure(NuropbTransportError, () => serve({ who() {} }, { url: restricted, name }))
        .then(({ code, message }) => {
          assert.equal(code, "ACCESS_REFUSED");
          assert.match(message, /nuropb-rpc-exchange/);
        });
      const service = await open.service({
        who: async (_params: unknown, ctx: Context) => {
          await ctx.mesh.publish("account.hosting", 1);
          return "restricted";
        },
      }, { url: restricted, name, declare: false });
      const mesh = await open.mesh();
      const answers = await Promise.all(Array.from({ length: 20 }, () => mesh.request(service.name, "who")));
      assert.deepEqual(new Set(answers), new Set(["declared", "restricted"]));
    });

    it("that may not subscribe is told so, and its mesh goes on", async () => {
      const { name } = await open.service({ who: () => "me" });
      const mesh = await open.mesh();
      const restricted = await connect(await accountWith(nothingToConfigure));
      const subscription = restricted.subscribe("topic");
      assert.equal(
        (await failure(NuropbTransportError, () => within(subscription.ready))).code,
        "ACCESS_REFUSED",
      );
      assert.equal(
        (await failure(NuropbTransportError, () => within(subscription.next()))).code,
        "ACCESS_REFUSED",
      );
      assert.equal(await restricted.request(name, "who"), "me");
      assert.equal(await mesh.request(name, "who"), "me");
      await restricted.close();
    });

    it("that may not write is told so for each command and event, and its mesh goes on", async () => {
      const { name } = await open.service({ who: () => "me" });
      const reader = await accountWith({ configure: "^$", write: "^$", read: ".*" });
      const mesh = await connect(reader, { confirmTimeout: 3_000 });
      for (let turn = 0; turn < 2; turn++) {
        for (const tell of [() => mesh.command(name, "who"), () => mesh.publish("topic", 1)]) {
          assert.equal((await failure(NuropbTransportError, () => within(tell()))).code, "ACCESS_REFUSED");
        }
        const ask = () => mesh.request(name, "who", {}, { ttl: 3_000 });
        assert.equal((await failure(NuropbTransportError, () => within(ask()))).code, "ACCESS_REFUSED");
      }
      assert.equal(mesh.status.state, "open");
      await mesh.close();
    });
  });

  describe("setupMesh with the management API", () => {
    it("makes a virtual host in which services work at once, and may be repeated", async () => {
      const vhost = uniqueName("mesh/with %");
      const target = urlWith(url, { vhost });
      await refusal(() => connect(target), "VHOST_NOT_FOUND", vhost);
      const made = new Management(api, vhost);
      try {
        await setupMesh(target, { managementUrl: api });
        await setupMesh(target, { managementUrl: api });
        const bindings = await made.bindings("nuropb-dead-letters");
        assert.deepEqual(bindings, [{ source: "nuropb-dl-exchange", routing_key: "", arguments: {} }]);
        const service = await serve({ who: () => "me" }, { url: target, name: "service" });
        assert.equal(await service.mesh.request("service", "who"), "me");
        await service.close();
      } finally {
        await made.deleteVhost();
      }
    });

    it("says clearly that the account is no administrator", async () => {
      const user = uniqueName("user");
      await management.makeUser(user, everything);
      try {
        const target = urlWith(url, { user, password: user, vhost: uniqueName("mesh") });
        const error = await failure(NuropbTransportError, () => setupMesh(target, { managementUrl: api }));
        assert.equal(error.code, "ACCESS_REFUSED");
        assert.match(error.message, new RegExp(`${user} must be an administrator`));
        const managementCredentials = { username: "guest", password: "s3cr3t" };
        const options = { managementUrl: api, managementCredentials };
        const other = await failure(NuropbTransportError, () => setupMesh(target, options));
        assert.equal(other.code, "ACCESS_REFUSED");
        assert.ok(!inspect(other, { depth: 20 }).includes("s3cr3t"));
      } finally {
        await management.deleteUser(user);
      }
    });
  });
}
