/**
 * Sends requests, commands and events. A mesh is one; a handler's context has another, which adds its trace and
 * its remaining time to each.
 *
 * @module
 */
import type {
  Caller,
  CallerScope,
  CallOptions,
  MeshResponse,
  PublishOptions,
  ServiceDescription,
  ServiceProxy,
} from "../calls.ts";
import type { Waits } from "../deadlines.ts";
import { abortable } from "../deferred.ts";
import { fromRemote, NuropbNotDeliveredError, NuropbTimeoutError, NuropbTransportError } from "../errors.ts";
import type { IdSource } from "../ids.ts";
import type { Message } from "../message.ts";
import {
  checkInteger,
  checkOptions,
  checkRecord,
  checkService,
  checkTopic,
  invalid,
  isList,
  MAX_MILLISECONDS,
} from "../options.ts";
import type { Supervisor } from "../transport/supervisor.ts";
import { EVENTS_EXCHANGE, RPC_EXCHANGE } from "../transport/topology.ts";
import { encodeCall, encodeEvent } from "../wire/envelope.ts";
import type { Call } from "../wire/envelope.ts";
import { closedError, notDelivered } from "./correlator.ts";
import type { Discovery } from "./discovery.ts";
import { createProxy } from "./proxy.ts";
import type { Requests } from "./requests.ts";

/** How long a request waits for its answer when its caller does not say, in ms. */
const REQUEST_TTL = 30_000;
/** How long a command may wait in its queue, in ms: Python's default. */
const COMMAND_TTL = 3_600_000;

const MAX_TRACE_ID = 255;

/** What all callers of one mesh share. */
export interface CallerCore {
  readonly supervisor: Supervisor;
  readonly ids: IdSource;
  readonly confirmTimeout: number;
  readonly discovery: Discovery;
  readonly requests: Requests;
  /** Confirmed messages under way. */
  readonly confirms: { readonly waits: Waits; readonly max: number };
}

/** The {@linkcode Caller} of a mesh, or of one context. */
export class MeshCaller implements Caller {
  readonly #core: CallerCore;
  readonly #scope: CallerScope | undefined;

  /** @param core Shared by all callers of a mesh. @param scope What each call inherits. */
  constructor(core: CallerCore, scope?: CallerScope) {
    this.#core = core;
    this.#scope = scope;
  }

  async request<Result = unknown>(
    service: string,
    method: string,
    params: object = {},
    options: CallOptions = {},
  ): Promise<Result> {
    const { result, error } = await this.#answer(service, method, params, options);
    if (error !== null) throw fromRemote(error.error, error.description);
    return result as Result;
  }

  async requestRaw(
    service: string,
    method: string,
    params: object = {},
    options: CallOptions = {},
  ): Promise<MeshResponse> {
    return await this.#answer(service, method, params, options);
  }

  async command(
    service: string,
    method: string,
    params: object = {},
    options: CallOptions = {},
  ): Promise<void> {
    checkOptions(options);
    const ttl = checkInteger("ttl", options.ttl ?? COMMAND_TTL, 1, MAX_MILLISECONDS);
    const call = this.#call("command", service, method, params, options, ttl);
    const { confirmTimeout, requests } = this.#core;
    this.#checkOpen();
    const plain = encodeCall(call, RPC_EXCHANGE);
    const deadline = Date.now() + confirmTimeout;
    try {
      const { encrypted, signal } = options;
      const message = await requests.sealCommand(call, plain, { encrypted, deadline, signal });
      await this.#confirmed(
        `the command ${service}.${method}`,
        options.signal,
        message,
        true,
        deadline,
      );
    } catch (error) {
      const missing = error instanceof NuropbNotDeliveredError ||
        (error instanceof NuropbTransportError && error.code === "NOT_FOUND");
      throw missing ? notDelivered(service, method, error) : error;
    }
  }

  async publish(topic: string, event: unknown, options: PublishOptions = {}): Promise<void> {
    checkOptions(options);
    if ((options as CallOptions).encrypted === true) {
      throw invalid("encrypted must be false for an event, which has no one reader to encrypt to", true);
    }
    this.#checkOpen();
    const message = encodeEvent({
      type: "event",
      topic: checkTopic(topic),
      event,
      context: checkRecord("context", options.context ?? {}),
      correlationId: this.#core.ids.next(),
      traceId: this.#traceId(options.traceId),
      target: checkTarget(options.target ?? null),
    }, EVENTS_EXCHANGE);
    await this.publishMessage(message, options.signal);
  }

  /** Publishes an event that is encoded already. */
  async publishMessage(message: Message, signal?: AbortSignal): Promise<void> {
    this.#checkOpen();
    await this.#confirmed(`the event ${message.routingKey}`, signal, message, false);
  }

  service<Instance>(name: string, options: CallOptions = {}): ServiceProxy<Instance> {
    checkService(name);
    return createProxy<Instance>((method, params, own) =>
      this.request(
        name,
        method,
        (params ?? {}) as object,
        own === undefined ? options : { ...options, ...own },
      )
    );
  }

  async describe(
    service: string,
    options: { refresh?: boolean; signal?: AbortSignal } = {},
  ): Promise<ServiceDescription> {
    checkOptions(options);
    checkService(service);
    this.#checkOpen();
    return await abortable(
      this.#core.discovery.describe(service, options.refresh ?? false),
      options.signal,
    );
  }

  #answer(service: string, method: string, params: object, options: CallOptions): Promise<MeshResponse> {
    checkOptions(options);
    const ttl = this.#ttl(service, method, options.ttl ?? REQUEST_TTL);
    const call = this.#call("request", service, method, params, options, ttl);
    const signal = this.#signal(options.signal);
    this.#checkOpen();
    // The params are looked at in any case before anything is sent.
    const message = encodeCall(call, RPC_EXCHANGE);
    const { encrypted, idempotent = false } = options;
    const deadline = Date.now() + ttl;
    return this.#core.requests.answer(call, message, { encrypted, idempotent, deadline, signal });
  }

  #call(
    type: Call["type"],
    service: string,
    method: string,
    params: object,
    options: CallOptions,
    ttl: number,
  ): Call {
    return {
      type,
      service: checkService(service),
      method: checkMethod(method),
      params: checkRecord("params", params),
      context: checkRecord("context", options.context ?? {}),
      correlationId: this.#core.ids.next(),
      traceId: this.#traceId(options.traceId),
      ttl,
    };
  }

  /** The time a request has: what its caller gives it, and no more than the handler that makes it has left. */
  #ttl(service: string, method: string, wanted: number): number {
    checkInteger("ttl", wanted, 1, MAX_MILLISECONDS);
    const left = Math.ceil((this.#scope?.deadline ?? Infinity) - Date.now());
    if (left <= 0) {
      throw new NuropbTimeoutError(
        `${service}.${method} was not called: the deadline of its own caller has passed`,
      );
    }
    return Math.min(wanted, left);
  }

  #traceId(given: string | undefined): string {
    // It rides in a header, which must stay small.
    if (given !== undefined && (typeof given !== "string" || given === "" || given.length > MAX_TRACE_ID)) {
      throw invalid(`traceId must be a string of 1 to ${MAX_TRACE_ID} characters`, given);
    }
    return given ?? this.#scope?.traceId ?? this.#core.ids.next();
  }

  #signal(given: AbortSignal | undefined): AbortSignal | undefined {
    if (this.#scope === undefined) return given;
    return given === undefined ? this.#scope.signal : AbortSignal.any([given, this.#scope.signal]);
  }

  #checkOpen(): void {
    const { state } = this.#core.supervisor.status;
    if (state === "closing" || state === "closed") throw closedError();
  }

  #confirmed(
    what: string,
    signal: AbortSignal | undefined,
    message: Message,
    mandatory: boolean,
    deadline = Date.now() + this.#core.confirmTimeout,
  ): Promise<void> {
    const { confirms: { waits, max }, confirmTimeout, supervisor } = this.#core;
    if (waits.pending >= max) {
      throw new NuropbTransportError(`${what} was not sent: ${max} wait for a confirm already`, {
        code: "TOO_MANY_PENDING",
      });
    }
    const timeout = () =>
      new NuropbTimeoutError(
        `The broker did not confirm ${what} within ${confirmTimeout} ms: it may have it`,
      );
    return waits.run(
      deadline - Date.now(),
      this.#signal(signal),
      timeout,
      (source) => supervisor.publish(message, mandatory, source),
    );
  }
}

function checkMethod(name: unknown): string {
  if (typeof name !== "string" || name === "") {
    throw invalid("The method's name must be a non-empty string", name);
  }
  return name;
}

function checkTarget(target: unknown): string[] | null {
  if (target !== null && !(isList(target) && target.every((name) => typeof name === "string"))) {
    throw invalid("target must be a list of names or null", target);
  }
  return target;
}
