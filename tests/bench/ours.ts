/**
 * A service and a caller of ours.
 *
 * @module
 */
import { bearer, connect, serve } from "../../mod.ts";
import { type Payload, runProgram } from "./program.ts";

const echo = (params: Payload) => params;

runProgram({
  async serve({ url, concurrency, services, subscribers, issuer }) {
    const service = await serve({ echo }, { name: "echo", url, concurrency });
    const { mesh } = service;
    await serve({ encrypted: echo }, {
      name: "vault",
      mesh,
      concurrency,
      methods: { encrypted: { encrypted: true } },
    });
    await serve({ echo }, {
      name: "guarded",
      mesh,
      concurrency,
      authorize: bearer({ publicKey: issuer.publicKey, issuer: "bench", audience: "bench" }),
    });
    const others = Array.from({ length: services - 1 }, (_, index) => `echo-${index + 1}`);
    await Promise.all(others.map((name) => serve({ echo }, { name, mesh, concurrency })));
    let received = 0;
    for (let index = 0; index < subscribers; index++) {
      const events = mesh.subscribe("bench.*");
      await events.ready;
      void (async () => {
        for await (const _ of events) received++;
      })();
    }
    return { received: () => received };
  },

  async connect({ url, services, cold, issuer }) {
    const mesh = await connect(url, { lazy: cold });
    // Whoever is in a hurry does not ask first whether the service wants to be called encrypted.
    const options = cold ? { encrypted: false } : {};
    const names = Array.from({ length: services }, (_, index) => index === 0 ? "echo" : `echo-${index}`);
    // The first call to a service asks for its description.
    if (services > 1) await Promise.all(names.map((name) => mesh.request(name, "echo", { text: "" })));
    let next = 0;
    const context = { Authorization: `Bearer ${issuer.token}` };
    return {
      actions: {
        request: (payload) => mesh.request("echo", "echo", payload, options),
        any: (payload) => mesh.request(names[next++ % services] ?? "echo", "echo", payload),
        encrypted: (payload) => mesh.request("vault", "encrypted", payload),
        claims: (payload) => mesh.request("guarded", "echo", payload, { context }),
        command: (payload) => mesh.command("echo", "echo", payload),
        event: (payload) => mesh.publish("bench.done", payload),
      },
    };
  },
});
