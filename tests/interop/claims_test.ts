import assert from "node:assert/strict";
import { connect, type Context, type Mesh, serve, type Service } from "@nuropb/mesh";
import { afterAll, beforeAll, it } from "@std/testing/bdd";
import { uniqueName } from "../support/env.ts";
import { PythonPeer } from "./python_peer.ts";
import { brokerUrl, describeWithPython, LogRecorder } from "./support.ts";

interface Claims {
  readonly sub: string;
  readonly scope: string;
}

/** A stand-in for a token's check: the token itself says who it is and what it may. */
function authorize(token: string): Claims | null {
  const [sub, scope = ""] = token.split("/");
  return sub === undefined || sub === "nobody" ? null : { sub, scope };
}

class Guarded {
  whoami({ x = 1 }: { x?: number }, { claims }: Context): unknown {
    return { claims, x };
  }

  pay(): string {
    return "paid";
  }

  open(): string {
    return "for everyone";
  }

  old(): string {
    return "still there";
  }
}

describeWithPython("a service of ours that wants to know its Python callers", () => {
  const name = uniqueName("guarded-ts");
  let python: PythonPeer;
  let mesh: Mesh;
  let service: Service;
  let log: LogRecorder;

  beforeAll(async () => {
    log = new LogRecorder();
    [python, mesh, service] = await Promise.all([
      PythonPeer.start({ url: brokerUrl(), service: uniqueName("caller") }),
      connect(brokerUrl(), { logger: log }),
      serve(new Guarded(), {
        url: brokerUrl(),
        name,
        authorize,
        methods: {
          pay: { scopes: ["pay"] },
          open: { authorize: false },
          old: { authorize: false, deprecated: "use open" },
        },
      }),
    ]);
  });

  afterAll(async () => {
    await mesh?.close();
    await python?.close();
    await service?.close();
  });

  const call = (method: string, token?: string, params: object = {}) =>
    python.requestRaw(name, method, params, token === undefined ? {} : { context: { Authorization: token } });

  it("takes the token from where Python puts it, with Bearer or without", async () => {
    for (const token of ["Bearer ann/read", "ann/read"]) {
      assert.deepEqual((await call("whoami", token, { x: 3 })).result, {
        claims: { sub: "ann", scope: "read" },
        x: 3,
      });
    }
  });

  it("refuses a Python caller without a token, or with one that nobody knows", async () => {
    for (const token of [undefined, "", "Bearer ", "Bearer nobody"]) {
      const { error, result } = await call("whoami", token);
      assert.deepEqual([error?.error, result], ["NuropbAuthenticationError", null]);
      assert.doesNotMatch(error!.description, /nobody/);
    }
  });

  it("refuses a Python caller whose token lacks the scope", async () => {
    assert.equal((await call("pay", "Bearer ann/read pay")).result, "paid");
    assert.equal((await call("pay", "Bearer ann/read")).error?.error, "NuropbAuthorizationError");
  });

  it("asks nobody for a token where it need not, and tells everyone of itself", async () => {
    assert.equal((await call("open")).result, "for everyone");
    assert.ok("whoami" in ((await python.describe(name)).info["methods"] as object));
  });

  it("gives a Python caller the warning of a deprecated method", async () => {
    const { result, warning } = await call("old");
    assert.equal(result, "still there");
    assert.match(warning ?? "", /use open/);
  });

  it("has its like in Python: a caller of ours gets the claims of Python's authorize function", async () => {
    const options = { context: { Authorization: "Bearer tok" } };
    assert.deepEqual(await mesh.request(python.service, "whoami", {}, options), {
      sub: "u1",
      user_id: "u1",
      token: "Bearer tok",
    });
  });

  it("reads Python's integers past 2^53 as BigInt where that is asked for", async () => {
    await using exact = await connect(brokerUrl(), { integers: "bigint" });
    const types = await exact.request<Record<string, unknown>>(python.service, "types");
    assert.deepEqual([types["big"], types["tuple"]], [2n ** 70n, [1, 2]]);
  });
});
