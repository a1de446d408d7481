import assert from "node:assert/strict";
import { inspect } from "node:util";
import { connect, NuropbTransportError, serve, setupMesh } from "@nuropb/mesh";
import type { ConnectOptions, Mesh, Service } from "@nuropb/mesh";
import { after, afterEach, before, describe, it } from "@std/testing/bdd";
import { Management, urlWith, vhostOf } from "../conformance/management.ts";
import { failure, within } from "../conformance/stage.ts";
import { managementUrl, rabbitmqUrl, uniqueName } from "../support/env.ts";
import { join, readRoles, withLess } from "./roles.ts";
import type { Permissions } from "./roles.ts";

const url = rabbitmqUrl();
const api = managementUrl();

/** Long enough for a broker that refuses, in ms; what is not answered then does not work. */
const TTL = 1_500;

/** What an account may try to do. Rejects when it may not, or when nothing comes of it. */
type Operation = (account: string, options: ConnectOptions, admin: Mesh) => Promise<void>;

async function on(
  url: string,
  options: ConnectOptions,
  work: (mesh: Mesh) => Promise<unknown>,
): Promise<void> {
  const mesh = await connect(url, { ...options, confirmTimeout: TTL });
  try {
    await work(mesh);
  } finally {
    await mesh.close();
  }
}

const calling = (work: (mesh: Mesh) => Promise<unknown>): Operation => (url, options) =>
  on(url, options, work);

const subscribing = (pattern: string): Operation => calling((mesh) => mesh.subscribe(pattern).ready);

const hosting = (name: string, topic: string, declares?: false): Operation => async (url, options, admin) => {
  const id = crypto.randomUUID();
  const service = await serve({ who: () => id }, {
    ...options,
    ...(declares === undefined ? {} : { declare: declares }),
    url,
    name,
    events: { [topic]: () => {} },
    drainTimeout: 100,
  });
  try {
    assert.equal(await admin.request(name, "who", {}, { ttl: TTL, encrypted: false }), id);
  } finally {
    await service.close();
  }
};

const readingDeadLetters = (replay: boolean): Operation => async (url, options, admin) => {
  await admin.command("bank", "fail", {}, { encrypted: false });
  await on(url, options, async (mesh) => {
    const letters = mesh.deadLetters();
    await letters.ready;
    const { value } = await within(letters.next());
    assert.equal(value?.service, "bank");
    if (replay) await value.replay();
    await letters.close();
  });
};

const operations = {
  request: calling((mesh) => mesh.request("bank", "who", {}, { ttl: TTL })),
  command: calling((mesh) => mesh.command("bank", "who")),
  "publish orders.created": calling((mesh) => mesh.publish("orders.created", 1)),
  "publish payments.made": calling((mesh) => mesh.publish("payments.made", 1)),
  "publish orders": calling((mesh) => mesh.publish("orders", 1)),
  "subscribe to orders.*": subscribing("orders.*"),
  "subscribe to orders.#": subscribing("orders.#"),
  "subscribe to payments.*": subscribing("payments.*"),
  "subscribe to *.created": subscribing("*.created"),
  "subscribe to #": subscribing("#"),
  "host shop": hosting("shop", "orders.*"),
  "host shop, which gets payments.*": hosting("shop", "payments.*"),
  "host bank": hosting("bank", "orders.*"),
  "take messages for bank": hosting("bank", "orders.*", false),
  "read dead letters": readingDeadLetters(false),
  "replay dead letters": readingDeadLetters(true),
} satisfies Record<string, Operation>;

type OperationName = keyof typeof operations;

const names = Object.keys(operations) as OperationName[];
const orders: OperationName[] = ["subscribe to orders.*", "subscribe to orders.#"];

interface Role {
  readonly options: ConnectOptions;
  readonly may: readonly OperationName[];
  /** Whether the queue of the service `shop` is to be declared by the account itself. */
  readonly declaresShop?: true;
}

/** What each row of the table is for. */
const roles: Readonly<Record<string, Role>> = {
  "calls services": { options: {}, may: ["request", "command"] },
  'calls services, with `replies: "queue"`': { options: { replies: "queue" }, may: ["request", "command"] },
  "publishes events": { options: {}, may: ["publish orders.created"] },
  "subscribes to events": { options: {}, may: orders },
  "subscribes to events, with `declare: false`": { options: { declare: false }, may: orders },
  "hosts a service, with `declare: false`": {
    options: { declare: false },
    may: ["host shop", "host shop, which gets payments.*"],
  },
  "hosts a service, and declares it": { options: {}, may: ["host shop"], declaresShop: true },
  "reads dead letters, with `declare: false`": { options: { declare: false }, may: ["read dead letters"] },
  "replays dead letters, with `declare: false`": {
    options: { declare: false },
    may: ["read dead letters", "replay dead letters"],
  },
};

if (url !== undefined && api !== undefined) {
  const management = new Management(api, vhostOf(url));
  const table = await readRoles();

  describe("an account with the permissions of the page on security", () => {
    let admin: Mesh;
    let bank: Service;
    let users: string[] = [];

    before(async () => {
      await setupMesh(url, { managementUrl: api });
      admin = await connect(url);
      bank = await serve({
        who: () => "bank",
        fail: () => {
          throw new Error("bankrupt");
        },
      }, { url, name: "bank" });
    });

    afterEach(async () => {
      await Promise.all(users.map((user) => management.deleteUser(user)));
      users = [];
    });

    after(async () => {
      await Promise.all([admin.close(), bank.close()]);
    });

    const accountWith = async ({ topicWrite, topicRead, ...permissions }: Permissions): Promise<string> => {
      const user = uniqueName("user");
      users.push(user);
      await management.makeUser(user, permissions);
      if (topicWrite !== undefined || topicRead !== undefined) {
        await management.call("PUT", management.path("topic-permissions", user), {
          exchange: "nuropb-events-exchange",
          write: topicWrite ?? ".*",
          read: topicRead ?? ".*",
        });
      }
      return urlWith(url, { user, password: user });
    };

    const prepare = async ({ declaresShop }: Role): Promise<void> => {
      if (declaresShop) await management.call("DELETE", management.path("queues", "nuropb-shop-sq"));
      else await (await serve({ who() {} }, { url, name: "shop", events: { "orders.*": () => {} } })).close();
    };

    const worksNot = async (account: string, role: Role): Promise<boolean> => {
      for (const name of role.may) {
        await prepare(role);
        try {
          await operations[name](account, role.options, admin);
        } catch {
          return true;
        }
      }
      return false;
    };

    it("is one of those that are tried here", () => {
      assert.deepEqual([...table.keys()], Object.keys(roles));
    });

    for (const [title, permissions] of table) {
      const role = roles[title] ?? { options: {}, may: [] };
      const { options, may } = role;

      it(`${title}`, async () => {
        const account = await accountWith(permissions);
        for (const name of may) {
          await prepare(role);
          await operations[name](account, options, admin);
        }
      });

      for (const name of names.filter((name) => !may.includes(name))) {
        it(`that ${title} may not ${name}`, async () => {
          await prepare(role);
          const account = await accountWith(permissions);
          for (const given of [options, { ...options, declare: true }]) {
            const operation = () => within(operations[name](account, given, admin), 10_000);
            assert.equal((await failure(NuropbTransportError, operation)).code, "ACCESS_REFUSED");
          }
        });
      }

      it(`that ${title} needs each part of them`, async () => {
        for (const [what, less] of withLess(permissions)) {
          assert.ok(await worksNot(await accountWith(less), role), `It works without ${what}`);
        }
      });
    }

    it("does what several rows say with what they have together", async () => {
      const joined = [
        "calls services",
        "publishes events",
        "subscribes to events",
        "hosts a service, and declares it",
      ];
      const account = await accountWith(join(joined.map((role) => table.get(role)!)));
      for (const role of joined) {
        for (const name of roles[role]!.may) await operations[name](account, {}, admin);
      }
    });
  });

  describe("setupMesh", () => {
    for (const tags of ["", "management", "policymaker", "monitoring"]) {
      it(`is refused to an account with ${inspect(tags)} for tags`, async () => {
        const user = uniqueName("user");
        await management.call("PUT", `users/${user}`, { password: user, tags });
        try {
          const target = urlWith(url, { user, password: user, vhost: uniqueName("mesh") });
          const error = await failure(NuropbTransportError, () => setupMesh(target, { managementUrl: api }));
          assert.equal(error.code, "ACCESS_REFUSED");
        } finally {
          await management.deleteUser(user);
        }
      });
    }

    it("needs of an account that it is an administrator, and no permissions", async () => {
      const user = uniqueName("user");
      const made = new Management(api, uniqueName("mesh"));
      await management.call("PUT", `users/${user}`, { password: user, tags: "administrator" });
      try {
        const target = urlWith(url, { user, password: user, vhost: made.vhost });
        await setupMesh(target, { managementUrl: api });
        await (await connect(target)).close();
      } finally {
        await made.deleteVhost();
        await management.deleteUser(user);
      }
    });
  });
}
