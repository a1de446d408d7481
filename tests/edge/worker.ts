/**
 * The worker of the tests: calls a service within a request, and hosts one in a Durable Object.
 *
 * @module
 */
import { connect, NuropbException, serve, type Service } from "@nuropb/mesh";

interface Env {
  readonly URL: string;
  readonly SERVICE: string;
  readonly ServiceHost: {
    idFromName(name: string): unknown;
    get(id: unknown): { fetch(url: string): Promise<Response> };
  };
}

export default {
  async fetch(request: Request, env: Env): Promise<Response> {
    const { pathname, searchParams } = new URL(request.url);
    if (pathname === "/host") {
      return await env.ServiceHost.get(env.ServiceHost.idFromName("one")).fetch(request.url);
    }
    const options = searchParams.has("ca") ? { tls: { ca: "-----BEGIN CERTIFICATE-----" } } : {};
    try {
      const mesh = await connect(env.URL, { name: "worker", lazy: true, connectTimeout: 5_000, ...options });
      try {
        const name = searchParams.get("name");
        return Response.json(
          await mesh.request(env.SERVICE, "hello", { name }, { encrypted: false, ttl: 10_000 }),
        );
      } finally {
        await mesh.close();
      }
    } catch (error) {
      if (!(error instanceof NuropbException)) throw error;
      return Response.json({ code: error.code, message: error.message }, { status: 502 });
    }
  },
};

/** Serves from its first request on. */
export class ServiceHost {
  readonly #env: Env;
  #service: Promise<Service> | undefined;

  constructor(_state: unknown, env: Env) {
    this.#env = env;
  }

  async fetch(request: Request): Promise<Response> {
    const name = new URL(request.url).searchParams.get("name") ?? "";
    let count = 0;
    this.#service ??= serve({ count: () => ++count }, { name, url: this.#env.URL, heartbeat: 1_000 });
    return Response.json((await this.#service).name);
  }
}
