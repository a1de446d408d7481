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
import {
  fromRemote,
  NuropbMessageError,
  NuropbNotDeliveredError,
  NuropbTimeoutError,
  NuropbTransportError,
} from "../errors.ts";
import type { IdSource } from "../ids.ts";
import type { Message } from "../message.ts";
import type { Logger } from "../options.ts";
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
import type { PayloadKey } from "../wire/encryption.ts";
import type { Integers } from "../wire/json.ts";
import { decodeResponse, encodeCall, encodeEvent, isEncrypted, isRefusal } from "../wire/envelope.ts";
import type { Call } from "../wire/envelope.ts";
import { closedError, notDelivered } from "./correlator.ts";
import type { Correlator } from "./correlator.ts";
import type { Discovery } from "./discovery.ts";
import { createProxy } from "./proxy.ts";
import { timeLeft } from "./sealer.ts";
import type { Sealer } from "./sealer.ts";

/** How long a request waits for its answer when its caller does not say, in ms. */
const REQUEST_TTL = 30_000;
/** How long a command may wait in its queue, in ms: Python's default. */
const COMMAND_TTL = 3_600_000;

const MAX_TRACE_ID = 255;

/** What all callers of one mesh share. */
export interface CallerCore {
  readonly supervisor: Supervisor;
  readonly correlator: Correlator;
  readonly ids: IdSource;
  readonly logger: Logger;
  readonly confirmTimeout: number;
  readonly integers: Integers;
  readonly discovery: Discovery;
  readonly sealer: Sealer;
  /** Methods whose warning was logged. */
  readonly warned: Set<string>;
  /** Confirmed messages under way. */
  readonly confirms: { readonly waits: Waits; readonly max: number };
  /** Calls that wait for their service's description. */
  readonly sealings: { pending: number; readonly max: number };
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

  request<Result = unknown>(
    service: string,
    method: string,
    params: object = {},
    options: CallOptions = {},
  ): Promise<Result> {
    return this.requestRaw(service, method, params, options).then(resultOf) as Promise<Result>;
  }

  async requestRaw(
    service: string,
    method: string,
    params: object = {},
    options: CallOptions = {},
  ): Promise<MeshResponse> {
    checkOptions(options);
    const ttl = this.#ttl(service, method, options.ttl ?? REQUEST_TTL);
    const call = this.#call("request", service, method, params, options, ttl);
    const signal = this.#signal(options.signal);
    this.#checkOpen();
    // The params are looked at in any case before anything is sent.
    const message = encodeCall(call, RPC_EXCHANGE);
    const { sealer, discovery } = this.#core;
    const { encrypted, idempotent = false } = options;
    const trial = { call, encrypted, idempotent, deadline: Date.now() + ttl, signal };
    let response: MeshResponse;
    if (sealer.isKnownPlain(call, encrypted)) {
      const answer = await this.#send(message, call, ttl, trial);
      response = this.#read(call, answer);
      if (isRefusal(answer) && encrypted === undefined) {
        response = await this.#sendAgain(trial, response, discovery.known(service));
      }
    } else {
      response = await this.#sendSealed(trial, message);
    }
    if (response.warning !== null) this.#warn(service, method, response.warning);
    return response;
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
    const { confirmTimeout, sealer } = this.#core;
    this.#checkOpen();
    const plain = encodeCall(call, RPC_EXCHANGE);
    const deadline = Date.now() + confirmTimeout;
    try {
      const { message } = sealer.isKnownPlain(call, options.encrypted)
        ? { message: plain }
        : await this.#sealing(
          call,
          () => sealer.sealCommand(call, plain, options.encrypted, deadline, options.signal),
        );
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

  #send(message: Message, call: Call, left: number, { idempotent, signal }: Trial): Promise<Message> {
    const { correlator, supervisor } = this.#core;
    const { service, method, ttl = left } = call;
    return correlator.call(
      message,
      { service, method, ttl, left, idempotent, signal },
      supervisor.connection,
    );
  }

  /** Sends a request as its service describes that it wants it. */
  async #sendSealed(trial: Trial, plain: Message): Promise<MeshResponse> {
    const { call, encrypted, deadline, signal } = trial;
    const { sealer } = this.#core;
    const first = await this.#sealing(call, () => sealer.seal(call, plain, encrypted, deadline, signal));
    const answer = await this.#send(first.message, call, timeLeft(call, deadline), trial);
    let response: MeshResponse;
    try {
      response = await this.#open(call, answer, first.key);
    } catch (error) {
      // A Python service that could not read the request answers what cannot be read in turn.
      if (!(error instanceof NuropbMessageError)) throw error;
      return await this.#sendAgain(trial, error, first.description);
    }
    return isRefusal(answer) ? await this.#sendAgain(trial, response, first.description) : response;
  }

  /** Sends a request once more, when its service now wants it in another way, or has another key. */
  async #sendAgain(
    trial: Trial,
    outcome: MeshResponse | NuropbMessageError,
    before: ServiceDescription | undefined,
  ): Promise<MeshResponse> {
    const { call, encrypted, deadline, signal } = trial;
    const { sealer, ids } = this.#core;
    if (await sealer.hasChanged(call, before, deadline, signal)) {
      // Under a new id, so that a second answer to the first one is not taken for its own.
      const again = { ...call, correlationId: ids.next() };
      const second = await sealer.seal(again, encodeCall(again, RPC_EXCHANGE), encrypted, deadline, signal);
      const answer = await this.#send(second.message, again, timeLeft(again, deadline), trial);
      return await this.#open(again, answer, second.key);
    }
    if (outcome instanceof NuropbMessageError) throw outcome;
    return outcome;
  }

  /** Reads an answer, which is encrypted as its request was. */
  async #open(call: Call, answer: Message, key: PayloadKey | undefined): Promise<MeshResponse> {
    if (key === undefined) return this.#read(call, answer);
    if (isEncrypted(answer)) return this.#read(call, answer, await key.decrypt(answer.body));
    // A service that could not open the request has no key for its answer: that may be an error, and no result.
    const refusal = this.#read(call, answer);
    if (refusal.error !== null) return refusal;
    throw new NuropbMessageError(`${call.service}.${call.method} answered an encrypted request in plain`);
  }

  #read({ service, method, correlationId }: Call, answer: Message, body?: Uint8Array): MeshResponse {
    const response = decodeResponse(answer, body, this.#core.integers);
    if (response.correlationId === correlationId) return response;
    throw new NuropbMessageError(`The answer to ${service}.${method} is one to another request`);
  }

  /** Passes a service's remark on to the log, once for each method. */
  #warn(service: string, method: string, warning: string): void {
    const { warned, logger } = this.#core;
    const name = `${service}.${method}`;
    if (warned.has(name)) return;
    warned.add(name);
    logger.warn(`${name} warns its callers`, { service, method, warning });
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

  /** Seals a call; while the connection is away only so many may wait for what their service says of itself. */
  async #sealing<Sealed>({ service, method }: Call, seal: () => Promise<Sealed>): Promise<Sealed> {
    const { sealings, supervisor } = this.#core;
    if (supervisor.connection === undefined && sealings.pending >= sealings.max) {
      throw new NuropbTransportError(
        `${service}.${method} was not sent: ${sealings.max} calls wait for the connection already`,
        { code: "TOO_MANY_PENDING" },
      );
    }
    sealings.pending++;
    try {
      return await seal();
    } finally {
      sealings.pending--;
    }
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

function resultOf({ result, error }: MeshResponse): unknown {
  if (error !== null) throw fromRemote(error.error, error.description);
  return result;
}

/** A request under way. */
interface Trial {
  readonly call: Call;
  readonly encrypted: boolean | undefined;
  readonly idempotent: boolean;
  /** In ms since the epoch. */
  readonly deadline: number;
  readonly signal: AbortSignal | undefined;
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
