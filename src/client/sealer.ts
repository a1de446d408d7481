/**
 * Encrypts calls, where their caller or their service wants that.
 *
 * @module
 */
import type { ServiceDescription } from "../calls.ts";
import { withDeadline } from "../deferred.ts";
import {
  NuropbException,
  NuropbHandlingError,
  NuropbMessageError,
  NuropbNotDeliveredError,
  NuropbTimeoutError,
} from "../errors.ts";
import { bytesOf } from "../message.ts";
import type { Message } from "../message.ts";
import type { Logger } from "../options.ts";
import type { PayloadKey } from "../wire/encryption.ts";
import { DESCRIBE_METHOD, withEncryptedBody } from "../wire/envelope.ts";
import type { Call } from "../wire/envelope.ts";
import type { CallEncryptor } from "./call_encryptor.ts";
import { notDelivered } from "./correlator.ts";
import type { Discovery } from "./discovery.ts";

/** A call as it goes out. */
export interface SealedCall {
  readonly message: Message;
  /** Opens the answer; absent when the call is plain. */
  readonly key?: PayloadKey;
  /** What it was decided by; absent for a service that cannot describe itself. */
  readonly description?: ServiceDescription;
}

/** How long a call waits for a description that it can do without, in ms. */
const PATIENCE = 2_000;
/** How long a service that cannot describe itself is not asked again, in ms. */
const SILENCE = 60_000;

/** Decides for each call, by what its caller says or its service describes. */
export class Sealer {
  readonly #discovery: Discovery;
  readonly #logger: Logger;
  /** Until when services are not asked again that answered with an error, or did not answer a command in time. */
  readonly #silent = new Map<string, { readonly until: number; readonly answered: boolean }>();
  #encryptor: CallEncryptor | undefined;

  /** @param discovery Asks services. @param logger Told of calls that go out plain for want of an answer. */
  constructor(discovery: Discovery, logger: Logger) {
    this.#discovery = discovery;
    this.#logger = logger;
  }

  /** Whether it is certain, without asking anyone, that a call goes out plain. */
  isKnownPlain({ type, service, method }: Call, encrypted: boolean | undefined): boolean {
    if (encrypted !== undefined || method === DESCRIBE_METHOD) return encrypted !== true;
    const known = this.#discovery.known(service);
    if (known !== undefined) return !requiresEncryption(known, method);
    const silent = this.#silent.get(service);
    return silent !== undefined && silent.until > Date.now() && (silent.answered || type === "command");
  }

  /**
   * Encrypts a call if it is to be.
   *
   * @param deadline In ms since the epoch.
   * @throws {NuropbMessageError} when it is to be, and the service has no public key.
   */
  async seal(
    call: Call,
    plain: Message,
    encrypted: boolean | undefined,
    deadline: number,
    signal: AbortSignal | undefined,
  ): Promise<SealedCall> {
    let description: ServiceDescription;
    try {
      [description] = await Promise.all([
        this.#describe(call, false, deadline, signal),
        // Meanwhile, since a page fetches it from its server.
        encrypted === true ? this.#loadEncryptor() : undefined,
      ]);
    } catch (error) {
      // Some Python services cannot describe themselves. Without a description there is no key, nor a wish for one.
      if (encrypted === true || !mayBePythons(error)) throw error;
      return this.#plain(call, plain, true);
    }
    if (!(encrypted ?? requiresEncryption(description, call.method))) return { message: plain, description };
    const encryptor = this.#encryptor ?? await this.#loadEncryptor();
    const { body, key } = await encryptor.encrypt(bytesOf(plain.body), description);
    return { message: withEncryptedBody(plain, body), key, description };
  }

  /** Encrypts a command if it is to be. It must also get into the queue of a service that is away just now. */
  async sealCommand(
    call: Call,
    plain: Message,
    encrypted: boolean | undefined,
    deadline: number,
    signal: AbortSignal | undefined,
  ): Promise<SealedCall> {
    const patience = encrypted === undefined ? Math.min(deadline, Date.now() + PATIENCE) : deadline;
    try {
      return await this.seal(call, plain, encrypted, patience, signal);
    } catch (error) {
      if (encrypted !== undefined || !(error instanceof NuropbTimeoutError)) throw error;
      return this.#plain(call, plain, false);
    }
  }

  /**
   * Asks the service again, and tells whether the call would go out in another way now. Without an answer it tells
   * no: what the service said to the call itself is more than nothing.
   */
  async hasChanged(
    call: Call,
    before: ServiceDescription | undefined,
    deadline: number,
    signal: AbortSignal | undefined,
  ): Promise<boolean> {
    if (before === undefined) return false;
    try {
      const now = await this.#describe(call, true, Math.min(deadline, Date.now() + PATIENCE), signal);
      return now.publicKey !== before.publicKey ||
        requiresEncryption(now, call.method) !== requiresEncryption(before, call.method);
    } catch {
      return false;
    }
  }

  async #loadEncryptor(): Promise<CallEncryptor> {
    const { CallEncryptor } = await import("./call_encryptor.ts");
    return this.#encryptor ??= new CallEncryptor();
  }

  #plain({ service, method }: Call, message: Message, answered: boolean): SealedCall {
    this.#silent.set(service, { until: Date.now() + (answered ? SILENCE : PATIENCE), answered });
    this.#logger.warn("calls go out plain, since their service does not describe itself", {
      service,
      method,
    });
    return { message };
  }

  /** The description of a call's service, within the call's own time. */
  async #describe(
    call: Call,
    refresh: boolean,
    deadline: number,
    signal: AbortSignal | undefined,
  ): Promise<ServiceDescription> {
    const { service, method } = call;
    for (;;) {
      const left = timeLeft(call, deadline);
      const asked = this.#discovery.describe(service, refresh, left);
      try {
        return await withDeadline(left, signal, () => timedOut(call), () => asked);
      } catch (error) {
        // What is told is about the call, not about the asking.
        if (error instanceof NuropbNotDeliveredError) throw notDelivered(service, method, error);
        // Whoever asked first may have had less time than this call has.
        if (!(error instanceof NuropbTimeoutError)) throw error;
      }
    }
  }
}

/** Whether a service answered an error that no service of ours gives to being asked for its description. */
function mayBePythons(error: unknown): boolean {
  return error instanceof NuropbException && error.remote !== undefined &&
    !(error instanceof NuropbMessageError || error instanceof NuropbHandlingError);
}

/** How long a call has until its deadline, in ms. */
export function timeLeft(call: Call, deadline: number): number {
  const left = Math.ceil(deadline - Date.now());
  if (left <= 0) throw timedOut(call);
  return left;
}

function timedOut({ service, method }: Call): NuropbTimeoutError {
  return new NuropbTimeoutError(
    `No answer from ${service}, so ${service}.${method} was not sent: whether it is to be encrypted is not known. ` +
      "Give it a longer ttl, or say encrypted: false",
  );
}

function requiresEncryption({ methods }: ServiceDescription, method: string): boolean {
  return Object.hasOwn(methods, method) && methods[method]!.requiresEncryption;
}
