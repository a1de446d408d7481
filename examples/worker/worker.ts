/**
 * A Cloudflare Worker on the mesh: it answers HTTP requests with what a service says, over a connection that lives as
 * long as the request. The service may be anywhere on the mesh; here a Durable Object hosts it.
 *
 *     npx esbuild examples/worker/worker.ts --bundle --format=esm --outfile=examples/worker/worker.js
 *     npx workerd serve examples/worker/config.capnp     # with RabbitMQ on localhost, and its virtual host nuropb
 *     curl -X POST localhost:8080/greeter                # starts the service
 *     curl localhost:8080/Ann                            # hello Ann
 */
import { connect, NuropbNotDeliveredError, serve, type Service } from "@nuropb/mesh";

interface Env {
  readonly NUROPB_URL: string;
  readonly GREETER: {
    getByName(name: string): { fetch(request: Request): Promise<Response> };
  };
}

export default {
  async fetch(request: Request, env: Env): Promise<Response> {
    const { pathname } = new URL(request.url);
    if (request.method === "POST" && pathname === "/greeter") {
      return await env.GREETER.getByName("greeter").fetch(request);
    }
    // A connection belongs to the request that opened it. Lazy, it shakes hands while the first call is under way.
    const mesh = await connect(env.NUROPB_URL, { lazy: true });
    try {
      const name = decodeURIComponent(pathname.slice(1));
      // Not to ask first whether the method wants encryption spares a round trip.
      const options = { encrypted: false, ttl: 5_000 };
      return new Response(await mesh.service<Greetings>("greeter", options).hello({ name }));
    } catch (error) {
      if (!(error instanceof NuropbNotDeliveredError)) throw error;
      return new Response("Nobody is there to greet: POST /greeter first\n", { status: 503 });
    } finally {
      await mesh.close();
    }
  },
};

class Greetings {
  hello({ name }: { name: string }): string {
    return `hello ${name}\n`;
  }
}

interface State {
  readonly storage: { setAlarm(time: number): Promise<void> };
}

/** How often the object is called, in ms. Its connection alone would not keep it from being put away for being idle. */
const ALARM_INTERVAL = 5_000;

/** A Durable Object that hosts the service from its first request on. */
export class Greeter {
  readonly #state: State;
  readonly #env: Env;
  #service: Promise<Service> | undefined;

  constructor(state: State, env: Env) {
    this.#state = state;
    this.#env = env;
  }

  async fetch(): Promise<Response> {
    await this.alarm();
    return new Response("The greeter is there\n");
  }

  /** Comes again and again, to a new object if this one is gone. */
  async alarm(): Promise<void> {
    await this.#state.storage.setAlarm(Date.now() + ALARM_INTERVAL);
    this.#service ??= serve(new Greetings(), { name: "greeter", url: this.#env.NUROPB_URL });
    try {
      await this.#service;
    } catch (error) {
      // The next alarm tries again.
      this.#service = undefined;
      throw error;
    }
  }
}
