/**
 * RabbitMQ's management API, for what the tests must know or do beyond what a mesh offers.
 *
 * @module
 */
import { Buffer } from "node:buffer";

/** A message, as the API publishes and gets it. */
export interface RawMessage {
  readonly routing_key: string;
  readonly properties: {
    readonly headers?: Record<string, unknown>;
    readonly reply_to?: string;
    readonly correlation_id?: string;
    readonly expiration?: string;
    readonly content_type?: string;
    readonly delivery_mode?: number;
    readonly message_id?: string;
  };
  readonly payload: string;
  readonly exchange?: string;
  readonly redelivered?: boolean;
}

/** A queue, as the API shows it. */
export interface RawQueue {
  readonly durable: boolean;
  readonly auto_delete: boolean;
  readonly exclusive: boolean;
  readonly arguments: Record<string, unknown>;
}

/** A binding, as the API shows it. */
export interface RawBinding {
  readonly source: string;
  readonly routing_key: string;
  readonly arguments: Record<string, unknown>;
}

const USER = "guest:guest";

/** One virtual host. */
export class Management {
  readonly vhost: string;
  readonly #base: string;

  /** @param base The API's address. @param vhost The virtual host's name. */
  constructor(base: string, vhost: string) {
    this.#base = base;
    this.vhost = vhost;
  }

  /** Calls the API. Gives undefined for what is not there. */
  async call<Answer>(method: string, path: string, body?: unknown): Promise<Answer | undefined> {
    const response = await fetch(`${this.#base}/api/${path}`, {
      method,
      headers: { authorization: `Basic ${btoa(USER)}`, "content-type": "application/json" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (response.status === 404) return undefined;
    if (!response.ok) throw new Error(`${method} ${path} gave ${response.status}: ${text}`);
    return text === "" ? undefined : JSON.parse(text);
  }

  /** The path of something in the virtual host. */
  path(kind: string, ...names: string[]): string {
    return [kind, this.vhost, ...names].map(encodeURIComponent).join("/");
  }

  async deleteVhost(): Promise<void> {
    await this.call("DELETE", this.path("vhosts"));
  }

  async queue(name: string): Promise<RawQueue | undefined> {
    const queue = await this.call<RawQueue>("GET", this.path("queues", name));
    if (queue === undefined) return undefined;
    const { durable, auto_delete, exclusive, arguments: given } = queue;
    return { durable, auto_delete, exclusive, arguments: given };
  }

  /** The bindings of a queue but for the default exchange's, by exchange and routing key. */
  async bindings(queue: string): Promise<RawBinding[]> {
    const bindings = await this.call<RawBinding[]>("GET", `${this.path("queues", queue)}/bindings`) ?? [];
    return bindings
      .filter(({ source }) => source !== "")
      .map(({ source, routing_key, arguments: given }) => ({ source, routing_key, arguments: given }))
      .toSorted((a, b) => `${a.source} ${a.routing_key}`.localeCompare(`${b.source} ${b.routing_key}`));
  }

  /** Publishes bytes, and tells whether a queue took them. */
  async publish(
    exchange: string,
    message: Omit<RawMessage, "payload">,
    body: Uint8Array | string,
  ): Promise<boolean> {
    const path = `${this.path("exchanges", exchange === "" ? "amq.default" : exchange)}/publish`;
    const answer = await this.call<{ routed: boolean }>("POST", path, {
      ...message,
      payload: Buffer.from(body as Uint8Array).toString("base64"),
      payload_encoding: "base64",
    });
    return answer?.routed ?? false;
  }

  /** Takes messages out of a queue, or looks at them. */
  async get(queue: string, count: number, keep = false): Promise<RawMessage[]> {
    const body = { count, ackmode: keep ? "ack_requeue_true" : "ack_requeue_false", encoding: "auto" };
    return await this.call<RawMessage[]>("POST", `${this.path("queues", queue)}/get`, body) ?? [];
  }

  /** Empties a queue. */
  async purge(queue: string): Promise<void> {
    await this.call("DELETE", `${this.path("queues", queue)}/contents`);
  }

  /** Makes an account with these permissions on the virtual host. */
  async makeUser(
    name: string,
    permissions: { configure: string; write: string; read: string },
  ): Promise<void> {
    await this.call("PUT", `users/${name}`, { password: name, tags: "" });
    await this.call("PUT", this.path("permissions", name), permissions);
  }

  async deleteUser(name: string): Promise<void> {
    await this.call("DELETE", `users/${name}`);
  }
}

/** A url with other parts. */
export function urlWith(url: string, parts: { user?: string; password?: string; vhost?: string }): string {
  const { protocol, username, password, host, pathname } = new URL(url);
  const vhost = parts.vhost === undefined ? pathname : `/${encodeURIComponent(parts.vhost)}`;
  return `${protocol}//${parts.user ?? username}:${parts.password ?? password}@${host}${vhost}`;
}

/** The virtual host that a url names. */
export function vhostOf(url: string): string {
  return decodeURIComponent(new URL(url).pathname.slice(1));
}
