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
    if (pathname.startsWith("/host")) {
      return await env.ServiceHost.get(env.ServiceHost.idFromName(searchParams.get("name") ?? "")).fetch(
        request.url,
      );
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

interface State {
  readonly storage: { setAlarm(time: number): Promise<void> };
  abort(reason: string): void;
}

/** How often an object is called that asks for it, in ms. */
const ALARM_INTERVAL_MS = 5_000;

/** Serves from its first request on, which may ask for an alarm that keeps the object. */
export class ServiceHost {
  readonly #state: State;
  readonly #env: Env;
  #service: Promise<Service> | undefined;

  constructor(state: State, env: Env) {
    this.#state = state;
    this.#env = env;
  }

  async fetch(request: Request): Promise<Response> {
    const { pathname, searchParams } = new URL(request.url);
    // As the runtime has objects go: it is not asked.
    if (pathname === "/host/abort") this.#state.abort("put away");
    let count = 0;
    const methods = { count: () => ++count, hold: () => new Promise<void>(() => {}) };
    const name = searchParams.get("name") ?? "";
    this.#service ??= serve(methods, { name, url: this.#env.URL, heartbeat: 1_000 });
    if (searchParams.has("alarm")) await this.alarm();
    return Response.json((await this.#service).name);
  }

  async alarm(): Promise<void> {
    await this.#state.storage.setAlarm(Date.now() + ALARM_INTERVAL_MS);
  }
}
