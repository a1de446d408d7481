/**
 * `setupMesh()`: makes a mesh where there is none.
 *
 * @module
 */
import { NuropbTransportError, NuropbValidationError } from "./errors.ts";
import { connect, DEFAULT_URL } from "./mesh.ts";
import { MeshConnection } from "./mesh_connection.ts";
import { invalid } from "./options.ts";
import type { ConnectOptions } from "./options.ts";
import { environment } from "./runtime/dial.ts";
import { parseUrl } from "./transport/open.ts";
import type { AmqpUrl } from "./transport/open.ts";
import { meshTopology } from "./transport/topology.ts";

/** Options of {@linkcode setupMesh}. */
export interface SetupOptions extends ConnectOptions {
  /** The management API's address. Default: the broker's host, at its port + 10000, over HTTP (HTTPS for `amqps:`). */
  managementUrl?: string;
  /** The account for the management API; `guest:guest` for one. Default: that of the broker's url. */
  managementCredentials?: { username: string; password: string };
}

/**
 * Makes the virtual host, gives the url's account all permissions on it, and declares the mesh's exchanges and the
 * queue of dead letters. What is there already stays as it is. Needs RabbitMQ's management plugin, and an account
 * that is an administrator there.
 *
 * @param url The mesh to make. Default: as for `connect`.
 * @param options How to reach the management API.
 * @throws {NuropbTransportError} when the management API cannot be reached or refuses, or the broker does.
 *
 * @example
 * ```ts
 * import { setupMesh } from "@nuropb/mesh";
 *
 * await setupMesh("memory:");
 * ```
 */
export async function setupMesh(url?: string, options: SetupOptions = {}): Promise<void> {
  if (url !== undefined && typeof url !== "string") throw invalid("The url must be a string", url);
  const target = url ?? environment("NUROPB_URL") ?? DEFAULT_URL;
  const broker = parseUrl(target);
  if ("relay" in broker) {
    throw new NuropbTransportError(
      "A mesh is set up over the broker's management API, which a WebSocket relay does not lead to: use its amqp: url",
      { code: "INVALID_URL" },
    );
  }
  if (broker.scheme !== "memory") await makeVirtualHost(broker, options);
  const mesh = await connect(target, options);
  try {
    if (!(mesh instanceof MeshConnection)) return;
    const connection = await mesh.supervisor.ready(options.signal);
    await connection.declare(meshTopology);
  } finally {
    await mesh.close();
  }
}

async function makeVirtualHost(broker: AmqpUrl, options: SetupOptions): Promise<void> {
  const vhost = encodeURIComponent(broker.vhost);
  const user = encodeURIComponent(broker.username);
  await put(broker, options, `/api/vhosts/${vhost}`, {});
  await put(broker, options, `/api/permissions/${vhost}/${user}`, {
    configure: ".*",
    write: ".*",
    read: ".*",
  });
}

async function put(broker: AmqpUrl, options: SetupOptions, path: string, body: object): Promise<void> {
  const base = managementUrl(broker, options.managementUrl);
  const { username, password } = options.managementCredentials ?? broker;
  const bytes = new TextEncoder().encode(`${username}:${password}`);
  let response: Response;
  try {
    response = await fetch(new URL(path, base), {
      method: "PUT",
      headers: {
        authorization: `Basic ${btoa(String.fromCharCode(...bytes))}`,
        "content-type": "application/json",
      },
      body: JSON.stringify(body),
      signal: options.signal ?? AbortSignal.timeout(options.connectTimeout ?? 10_000),
    });
  } catch (cause) {
    options.signal?.throwIfAborted();
    throw new NuropbTransportError(
      `RabbitMQ's management API does not answer at ${base.origin}: enable the plugin rabbitmq_management, or give ` +
        `managementUrl`,
      { code: "CONNECT_FAILED", cause },
    );
  }
  // The body is of no use here, and left unread it would keep the connection busy.
  await response.body?.cancel();
  if (!response.ok) {
    throw new NuropbTransportError(
      `RabbitMQ's management API refused PUT ${path} at ${base.origin} with status ${response.status}: the account ` +
        `${username} must be an administrator there`,
      { code: response.status === 401 || response.status === 403 ? "ACCESS_REFUSED" : "CONNECT_FAILED" },
    );
  }
}

function managementUrl(broker: AmqpUrl, given: string | undefined): URL {
  if (given !== undefined) {
    const url = URL.canParse(given) ? new URL(given) : undefined;
    if (url !== undefined && url.username === "" && url.password === "") return url;
    // Not shown, as there may be a password in it.
    throw new NuropbValidationError(
      "managementUrl must be a url without an account, which managementCredentials are for",
      { code: "INVALID_ARGUMENT" },
    );
  }
  const host = broker.host.includes(":") ? `[${broker.host}]` : broker.host;
  return new URL(`${broker.scheme === "amqps" ? "https" : "http"}://${host}:${broker.port + 10_000}`);
}
