/**
 * The stage of the parity table: a Python service and one of ours, a Python caller and one of ours, and a tap on
 * what goes over the wire.
 *
 * @module
 */
import { serve, type Service } from "@nuropb/mesh";
import { Management, type RawMessage, vhostOf } from "../conformance/management.ts";
import { managementUrl, uniqueName } from "../support/env.ts";
import type { Direction } from "./parity_cell.ts";
import { type Caller, CallerOfOurs, pythonCaller } from "./parity_callers.ts";
import { type Arrival, ordersOfOurs } from "./parity_orders.ts";
import { PythonPeer } from "./python_peer.ts";
import { brokerUrl, eventually, newTrace } from "./support.ts";

export type Language = "python" | "ours";

/** A service in either language. */
export interface Hosted extends AsyncDisposable {
  readonly name: string;
  /** Whether a message of this trace has come in. Asks it directly, not over the mesh. */
  has(traceId: string): Promise<boolean>;
  /** How many times it has lost its channel. */
  lost(): Promise<number>;
  /** Ends it as its own library does. */
  close(): Promise<void>;
}

/** What a cell is tried with. */
export interface Side {
  readonly direction: Direction;
  readonly caller: Caller;
  /** The service's name. */
  readonly service: string;
  readonly languages: { readonly caller: Language; readonly service: Language };
  readonly stage: Stage;
  /** What the service got under a trace. What was sent to it before is among it. */
  got(traceId: string): Promise<Arrival[]>;
  /** What the service sent to the dead letters under a trace; what it handled before is among it. */
  letters(traceId: string): Promise<RawMessage[]>;
  /** A message as it went over the wire. */
  sent(traceId: string): Promise<RawMessage>;
  /** The events that went over the wire under a trace so far. */
  events(traceId: string): Promise<RawMessage[]>;
}

const PATTERNS = ["parity.*.created", "parity.audit.#"];
const TAP = "parity-tap";
const LETTERS = "parity-letters";
const LANGUAGES: Readonly<Record<Direction, Side["languages"]>> = {
  "Python calls Python": { caller: "python", service: "python" },
  "Python calls ours": { caller: "python", service: "ours" },
  "ours calls Python": { caller: "ours", service: "python" },
  "ours calls ours": { caller: "ours", service: "ours" },
};

/** Everyone who takes part. */
export class Stage implements AsyncDisposable {
  /** A Python peer that calls, and whose own service does nothing. */
  readonly peer: PythonPeer;
  /** The caller of ours. */
  readonly ours: Caller;
  readonly #callers: Readonly<Record<Language, Caller>>;
  readonly #services: Readonly<Record<Language, string>>;
  readonly #api: Management;
  readonly #seen: Record<string, RawMessage[]> = { [TAP]: [], [LETTERS]: [] };
  readonly #opened: readonly AsyncDisposable[];

  private constructor(
    peer: PythonPeer,
    ours: Caller,
    services: Record<Language, string>,
    api: Management,
    opened: readonly AsyncDisposable[],
  ) {
    this.peer = peer;
    this.ours = ours;
    this.#callers = { python: pythonCaller(peer), ours };
    this.#services = services;
    this.#api = api;
    this.#opened = opened;
  }

  /** Opens it. */
  static async open(): Promise<Stage> {
    const services = { python: uniqueName("orders-python"), ours: uniqueName("orders-ours") };
    const opened: AsyncDisposable[] = [];
    const url = brokerUrl();
    const open = async <Item extends AsyncDisposable>(opening: Promise<Item>) => {
      const item = await opening;
      opened.push(item);
      return item;
    };
    try {
      const [ours, peer] = await Promise.all([
        open(CallerOfOurs.open(url)),
        open(PythonPeer.start({ url, service: uniqueName("caller") })),
        open(host("python", services.python)),
        open(host("ours", services.ours)),
      ]);
      const api = new Management(managementUrl()!, vhostOf(url));
      await tap(api, TAP, [
        ["nuropb-rpc-exchange", services.python],
        ["nuropb-rpc-exchange", services.ours],
        ["nuropb-events-exchange", "#"],
      ]);
      await tap(api, LETTERS, [["nuropb-dl-exchange", ""]]);
      // A Python caller has a public key by this and no other way.
      await Promise.all(Object.values(services).map((service) => peer.describe(service)));
      return new Stage(peer, ours, services, api, opened);
    } catch (error) {
      await closeAll(opened);
      throw error;
    }
  }

  /** One column of the table. */
  side(direction: Direction): Side {
    const languages = LANGUAGES[direction];
    const service = this.#services[languages.service];
    const caller = this.#callers[languages.caller];
    return {
      direction,
      caller,
      service,
      languages,
      stage: this,
      got: async (traceId) => {
        const { result } = await caller.ask(service, "received", { trace_id: traceId });
        return (result as unknown[]).map(arrivalOf);
      },
      letters: async (traceId) => {
        // The letter of a last command comes after all others, as the service does one thing at a time.
        const last = newTrace();
        await caller.command(service, "verr", {}, { traceId: last });
        await eventually("the last letter", async () => (await this.#traced(LETTERS, last))[0]);
        const letters = await this.#traced(LETTERS, traceId);
        return letters.filter((letter) => deathOf(letter).queue === `nuropb-${service}-sq`);
      },
      sent: (traceId) => eventually("the message", async () => (await this.#traced(TAP, traceId))[0]),
      events: async (traceId) => {
        // Python sends them after its answer, but before its next one.
        await caller.ask(service, "nothing");
        const last = newTrace();
        await caller.publish("last", {}, { traceId: last });
        await eventually("the last event", async () => (await this.#traced(TAP, last))[0]);
        return (await this.#traced(TAP, traceId)).filter(({ exchange }) =>
          exchange === "nuropb-events-exchange"
        );
      },
    };
  }

  /** Puts into a service's queue what neither library would send, and gives its trace id. */
  async garble(service: string, nuropb_type: string, body: string): Promise<string> {
    const [trace_id, correlation_id] = [newTrace(), crypto.randomUUID()];
    const headers = { trace_id, nuropb_type, nuropb_protocol: "0.1.1", encrypted: "" };
    const message = { routing_key: service, properties: { headers, correlation_id } };
    await this.#api.publish("nuropb-rpc-exchange", message, body);
    return trace_id;
  }

  /** The dead letters of a trace, once there is one. */
  async lettersOf(traceId: string): Promise<RawMessage[]> {
    return await eventually("a dead letter", async () => {
      const letters = await this.#traced(LETTERS, traceId);
      return letters.length > 0 ? letters : undefined;
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return closeAll(this.#opened);
  }

  async #traced(queue: string, traceId: string): Promise<RawMessage[]> {
    const seen = this.#seen[queue]!;
    seen.push(...await this.#api.get(queue, 1_000));
    return seen.filter(({ properties }) => properties.headers?.["trace_id"] === traceId);
  }
}

/** Starts a service. */
export async function host(language: Language, name: string, url = brokerUrl()): Promise<Hosted> {
  if (language === "python") {
    const peer = await PythonPeer.start({ url, service: name, events: PATTERNS });
    const close = () => peer.close();
    return {
      name,
      has: async (traceId) => (await peer.arrivals(traceId)).length > 0,
      lost: async () => await peer.inspect("losses") as number,
      close,
      [Symbol.asyncDispose]: close,
    };
  }
  const arrivals: Arrival[] = [];
  const { methods, options } = ordersOfOurs(arrivals);
  const service: Service = await serve(methods, { ...options, url, name });
  let lost = 0;
  service.mesh.addEventListener("status", () => lost++);
  const close = () => service.close();
  return {
    name,
    has: (traceId) => Promise.resolve(arrivals.some((arrival) => arrival.traceId === traceId)),
    lost: () => Promise.resolve(lost),
    close,
    [Symbol.asyncDispose]: close,
  };
}

/** All at once: a Python peer takes a while. */
async function closeAll(opened: readonly AsyncDisposable[]): Promise<void> {
  await Promise.all(opened.map((item) => item[Symbol.asyncDispose]()));
}

/** Where and why a dead letter died last. */
export function deathOf({ properties }: RawMessage): { reason: string; count: number; queue: string } {
  const [death] = properties.headers?.["x-death"] as { reason: string; count: number; queue: string }[];
  if (death === undefined) throw new Error("It is no dead letter");
  return death;
}

async function tap(
  api: Management,
  queue: string,
  bindings: readonly (readonly [string, string])[],
): Promise<void> {
  await api.call("PUT", api.path("queues", queue), { durable: true });
  for (const [exchange, key] of bindings) {
    const path = `${api.path("bindings")}/e/${exchange}/q/${queue}`;
    await api.call("POST", path, { routing_key: key });
  }
}

/** Python keeps whole messages. */
function arrivalOf(arrival: unknown): Arrival {
  const { payload, trace_id } = arrival as { payload?: Record<string, unknown>; trace_id?: string };
  if (payload === undefined) return arrival as Arrival;
  return {
    traceId: trace_id ?? null,
    context: payload["context"],
    body: payload["params"] ?? payload["event"],
  };
}
