/**
 * `connect()` and what it gives.
 *
 * @module
 */
import type { Caller, DeadLetter, DeliveryStream, SubscribeOptions, Subscription } from "./calls.ts";
import type { Context } from "./host/context.ts";
import { MeshConnection } from "./mesh_connection.ts";
import { checkConnectOptions, checkOptions, invalid, isList } from "./options.ts";
import type { ConnectOptions } from "./options.ts";
import { environment } from "./runtime/dial.ts";
import type { MeshStatus } from "./transport/supervisor.ts";

/** The mesh's url when neither the caller nor `NUROPB_URL` names one. */
export const DEFAULT_URL = "amqp://guest:guest@localhost:5672/nuropb";

/** The event that a {@linkcode Mesh} dispatches when its status changes; `detail` is the new one. */
export type StatusEvent = CustomEvent<MeshStatus>;

/** A connection to a mesh. Made by {@linkcode connect}. */
export interface Mesh extends Caller, AsyncDisposable {
  /** Where it stands with its broker. */
  readonly status: MeshStatus;

  /**
   * Listens to the events of some topics. Every subscriber gets every event; those that happen while the broker is
   * away are not among them.
   *
   * @param topics One pattern or several: words with dots between, `*` for any one word, `#` for any number.
   * @returns An async iterable of `{ topic, event, ctx }`. Its `ready` resolves when the broker has the subscription.
   * @throws {NuropbValidationError} for a pattern that cannot be one.
   *
   * @example
   * ```ts
   * import { connect } from "@nuropb/mesh";
   *
   * await using mesh = await connect("memory:");
   * const orders = mesh.subscribe<{ id: number }>("orders.*");
   * await orders.ready;
   * await mesh.publish("orders.created", { id: 1 });
   * for await (const { topic, event } of orders) {
   *   console.log(topic, event.id); // orders.created 1
   *   break;
   * }
   * ```
   */
  subscribe<Payload = unknown>(
    topics: string | readonly string[],
    options?: SubscribeOptions,
  ): Subscription<Payload, Context>;

  /**
   * Reads what services could not handle: commands and events that failed, and whatever expired in a queue. Each
   * letter stays on the broker until it is replayed or discarded, and goes back there when the loop is left.
   *
   * @returns An async iterable that waits for more.
   *
   * @example
   * ```ts
   * import { connect, serve } from "@nuropb/mesh";
   *
   * let broken = true;
   * await using service = await serve({
   *   ship({ order }: { order: number }) {
   *     if (broken) throw new Error("no truck");
   *     console.log("shipped", order);
   *   },
   * }, { name: "shipping", url: "memory:" });
   * await using mesh = await connect("memory:");
   * await mesh.command("shipping", "ship", { order: 1 });
   *
   * for await (const letter of mesh.deadLetters()) {
   *   console.log(letter.service, letter.type, letter.reason); // shipping command rejected
   *   broken = false;
   *   await letter.replay();
   *   break;
   * }
   * ```
   */
  deadLetters(options?: SubscribeOptions): DeliveryStream<DeadLetter>;

  /**
   * Waits until the broker is connected.
   *
   * @throws {NuropbTransportError} with code `CLOSED` when the mesh is closed, or the signal's reason.
   */
  ready(options?: { signal?: AbortSignal }): Promise<void>;

  /** Calls the listener whenever the status changes. */
  addEventListener(
    type: "status",
    listener: (event: StatusEvent) => void,
    options?: AddEventListenerOptions,
  ): void;

  /** Calls the listener no more. */
  removeEventListener(type: "status", listener: (event: StatusEvent) => void): void;

  /** Closes the connection. Calls without an answer are rejected with code `CLOSED`. Never rejects. */
  close(): Promise<void>;
}

/**
 * Connects to a mesh.
 *
 * @param url `amqp:`, `amqps:`, `ws:`, `wss:` or `memory:`; a list is the brokers of one cluster, tried in turn. Default: the
 *   environment's `NUROPB_URL`, else `amqp://guest:guest@localhost:5672/nuropb`.
 * @param options How to connect.
 * @returns The mesh, once it can be used; at once if `lazy`.
 * @throws {NuropbTransportError} with code `INVALID_URL`, `CONNECT_FAILED`, `ACCESS_REFUSED` or `VHOST_NOT_FOUND`,
 *   within `connectTimeout` ms.
 * @throws {NuropbValidationError} for an option that cannot be used.
 *
 * @example
 * ```ts
 * import { connect } from "@nuropb/mesh";
 *
 * const mesh = await connect("memory:");
 * await mesh.publish("greetings.sent", { name: "Ann" });
 * await mesh.close();
 * ```
 */
export async function connect(url?: string | readonly string[], options: ConnectOptions = {}): Promise<Mesh> {
  checkOptions(options);
  const checked = checkConnectOptions(options);
  const mesh = new MeshConnection(brokersOf(url), checked);
  const opened = mesh.open(options.signal);
  // What waits for the connection is told of its failure.
  if (checked.lazy) opened.catch(() => {});
  else await opened;
  return mesh;
}

function brokersOf(url: string | readonly string[] | undefined): readonly string[] {
  const urls = typeof url === "string" ? [url] : url ?? [environment("NUROPB_URL") ?? DEFAULT_URL];
  if (!isList(urls) || urls.length === 0) {
    throw invalid("The url must be a string, or a list of some", url);
  }
  return urls;
}
