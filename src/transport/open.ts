/**
 * From a url to a broker.
 *
 * @module
 */
import { NuropbTransportError } from "../errors.ts";
import { IdSource } from "../ids.ts";
import { checkRoutingKey, invalid, shorten } from "../options.ts";
import type { ConnectOptions, TlsOptions } from "../options.ts";
import type { Address } from "../runtime/byte_socket.ts";
import { openAmqp } from "./amqp.ts";
import type { OpenConnection } from "./transport.ts";

/** A broker's url, taken apart. */
export type BrokerUrl = MemoryUrl | AmqpUrl | WebSocketUrl;

interface MemoryUrl {
  readonly scheme: "memory";
  readonly name: string;
}

/** An account on a broker, and the virtual host. */
interface NetworkUrl {
  readonly host: string;
  readonly port: number;
  /** Whether the url names an account; else it is RabbitMQ's `guest`, or the client certificate's. */
  readonly hasAccount: boolean;
  readonly username: string;
  readonly password: string;
  readonly vhost: string;
}

/** The url of a broker itself. */
export interface AmqpUrl extends NetworkUrl {
  readonly scheme: "amqp" | "amqps";
}

interface WebSocketUrl extends NetworkUrl {
  readonly scheme: "ws" | "wss";
  /** The url as the relay gets it: with its path and query, without the account and the virtual host. */
  readonly relay: string;
}

const DEFAULT_PORTS = { amqp: 5672, amqps: 5671, ws: 80, wss: 443 };

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
  const scheme = protocol.slice(0, -1);
  if (!isNetworkScheme(scheme)) {
    throw invalidUrl(url, "must start with amqp:, amqps:, ws:, wss: or memory:");
  }
  const isWebSocket = scheme === "ws" || scheme === "wss";
  if (hostname === "") throw invalidUrl(url, "has no host");
  if (hash !== "" || (search !== "" && !isWebSocket)) {
    throw invalidUrl(url, "may not have a query: use the options of connect()");
  }
  try {
    const named = isWebSocket
      ? new URLSearchParams(search).get("vhost")
      : decodeURIComponent(pathname.slice(1));
    const broker: NetworkUrl = {
      // An IPv6 address stands in brackets in a url, and nowhere else.
      host: hostname.replace(/^\[(.*)\]$/, "$1"),
      port: port === "" ? DEFAULT_PORTS[scheme] : Number(port),
      hasAccount: username !== "" || password !== "",
      username: decodeURIComponent(username) || "guest",
      password: decodeURIComponent(password) || "guest",
      vhost: checkRoutingKey("The virtual host", named || "/"),
    };
    return isWebSocket ? { scheme, ...broker, relay: relayOf(url) } : { scheme, ...broker };
  } catch (cause) {
    if (cause instanceof URIError) throw invalidUrl(url, "has a % that starts no escape", cause);
    throw invalidUrl(url, "has a virtual host of more than 255 bytes", cause);
  }
}

function isNetworkScheme(scheme: string): scheme is keyof typeof DEFAULT_PORTS {
  return Object.hasOwn(DEFAULT_PORTS, scheme);
}

/** The url without what is the broker's; the rest of the query stays as it was written. */
function relayOf(url: string): string {
  const relay = new URL(url);
  relay.username = relay.password = "";
  const parameters = relay.search.slice(1).split("&");
  relay.search = parameters.filter((parameter) => !/^vhost(=|$)/.test(parameter)).join("&");
  return relay.href;
}

/** Makes the function that opens a connection to the broker behind a url. */
export function openerOf(broker: BrokerUrl, options: OpenOptions, isCluster = false): OpenConnection {
  const ids = new IdSource();
  const replyQueue = (client: string) =>
    options.replies === "queue" ? `nuropb-${client}-client-${ids.next()}-rq` : undefined;
  const { declare, maxMessageSize } = options;
  if (broker.scheme === "memory") {
    return async (handlers, signal) => {
      const { openMemory } = await import("./memory.ts");
      const queue = replyQueue("memory");
      return await openMemory(
        { name: broker.name, declare, maxMessageSize, ...(queue === undefined ? {} : { replyQueue: queue }) },
        handlers,
        signal,
      );
    };
  }
  const { username, password, vhost } = broker;
  const address = addressOf(broker, options.tls);
  const showsCertificate = address.tls?.cert !== undefined;
  const mechanism = !broker.hasAccount && showsCertificate ? "EXTERNAL" : "PLAIN";
  const handshake = { pipelined: true };
  return (handlers, signal) => {
    const queue = replyQueue(vhost);
    return openAmqp(
      {
        address,
        username,
        password,
        mechanism,
        vhost,
        handshake,
        isCluster,
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

function addressOf(broker: AmqpUrl | WebSocketUrl, tls: TlsOptions | undefined): Address {
  const { host, port } = broker;
  switch (broker.scheme) {
    case "amqp":
      return { host, port };
    case "amqps":
      return { host, port, tls: tls ?? {} };
    default:
      if (tls?.ca !== undefined || tls?.cert !== undefined || tls?.key !== undefined) {
        throw invalid("tls must be left out with a WebSocket, which takes no certificates", tls);
      }
      return { host, port, webSocket: broker.relay };
  }
}

/** Whether everyone on the way to a broker can read the account's password. */
export function exposesPassword(broker: BrokerUrl): boolean {
  if (broker.scheme !== "amqp" && broker.scheme !== "ws") return false;
  return !/^(localhost|.*\.localhost|127\.\d+\.\d+\.\d+|::1)$/i.test(broker.host);
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
  return shorten(shown.replace(/[?#].*$/s, "?…"));
}
