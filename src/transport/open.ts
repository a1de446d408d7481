/**
 * From a url to a broker.
 *
 * @module
 */
import { NuropbTransportError } from "../errors.ts";
import { IdSource } from "../ids.ts";
import { checkRoutingKey } from "../options.ts";
import type { ConnectOptions } from "../options.ts";
import { openAmqp } from "./amqp.ts";
import { openMemory } from "./memory.ts";
import type { OpenConnection } from "./transport.ts";

/** A broker's url, taken apart. */
export type BrokerUrl =
  | { readonly scheme: "memory"; readonly name: string }
  | {
    readonly scheme: "amqp" | "amqps";
    readonly host: string;
    readonly port: number;
    readonly username: string;
    readonly password: string;
    readonly vhost: string;
  };

/** The options that opening a connection needs. */
export type OpenOptions =
  & Required<
    Pick<ConnectOptions, "name" | "heartbeat" | "connectTimeout" | "declare" | "maxMessageSize" | "replies">
  >
  & Pick<ConnectOptions, "tls">;

/**
 * Takes a url apart.
 *
 * @throws {NuropbTransportError} with code `INVALID_URL`, and without the password.
 */
export function parseUrl(url: string): BrokerUrl {
  if (typeof url !== "string" || !URL.canParse(url)) throw invalidUrl(url, "is not a url");
  const { protocol, host, hostname, port, username, password, pathname, search, hash } = new URL(url);
  if (protocol === "memory:") {
    if (host !== "" || search !== "" || hash !== "") throw invalidUrl(url, "must be memory: and a name");
    return { scheme: "memory", name: pathname };
  }
  if (protocol !== "amqp:" && protocol !== "amqps:") {
    throw invalidUrl(url, "must start with amqp:, amqps: or memory:");
  }
  if (hostname === "") throw invalidUrl(url, "has no host");
  if (search !== "" || hash !== "") {
    throw invalidUrl(url, "may not have a query: use the options of connect()");
  }
  try {
    checkRoutingKey("The virtual host", decodeURIComponent(pathname.slice(1)) || "/");
    return {
      scheme: protocol === "amqps:" ? "amqps" : "amqp",
      // An IPv6 address stands in brackets in a url, and nowhere else.
      host: hostname.replace(/^\[(.*)\]$/, "$1"),
      port: port === "" ? (protocol === "amqps:" ? 5671 : 5672) : Number(port),
      username: decodeURIComponent(username) || "guest",
      password: decodeURIComponent(password) || "guest",
      vhost: decodeURIComponent(pathname.slice(1)) || "/",
    };
  } catch (cause) {
    if (cause instanceof URIError) throw invalidUrl(url, "has a % that starts no escape", cause);
    throw invalidUrl(url, "has a virtual host of more than 255 bytes", cause);
  }
}

/** Makes the function that opens a connection to the broker behind a url. */
export function openerOf(broker: BrokerUrl, options: OpenOptions): OpenConnection {
  const ids = new IdSource();
  const replyQueue = (client: string) =>
    options.replies === "queue" ? `nuropb-${client}-client-${ids.next()}-rq` : undefined;
  const { declare, maxMessageSize } = options;
  if (broker.scheme === "memory") {
    return (handlers, signal) => {
      const queue = replyQueue("memory");
      return openMemory(
        { name: broker.name, declare, maxMessageSize, ...(queue === undefined ? {} : { replyQueue: queue }) },
        handlers,
        signal,
      );
    };
  }
  const { scheme, host, port, username, password, vhost } = broker;
  const address = scheme === "amqps" ? { host, port, tls: options.tls ?? {} } : { host, port };
  return (handlers, signal) => {
    const queue = replyQueue(vhost);
    return openAmqp(
      {
        address,
        username,
        password,
        vhost,
        name: options.name,
        heartbeat: options.heartbeat,
        methodTimeout: options.connectTimeout,
        maxMessageSize,
        declare,
        ...(queue === undefined ? {} : { replyQueue: queue }),
      },
      handlers,
      signal,
    );
  };
}

function invalidUrl(url: unknown, fault: string, cause?: unknown): NuropbTransportError {
  const shown = withoutSecrets(String(url));
  return new NuropbTransportError(`The broker's url ${JSON.stringify(shown)} ${fault}`, {
    code: "INVALID_URL",
    ...(cause === undefined ? {} : { cause }),
  });
}

/** A url, however wrong, without what may be an account or a password in it. */
function withoutSecrets(url: string): string {
  const [scheme = ""] = /^[a-z]+:(?:\/\/)?/i.exec(url) ?? [];
  const at = url.lastIndexOf("@");
  const shown = at === -1
    ? url
    : `${/^(?:amqps?|wss?|https?):/i.test(scheme) ? scheme : ""}…${url.slice(at)}`;
  return shown.replace(/[?#].*$/s, "?…");
}
