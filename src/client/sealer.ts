/**
 * Encrypts calls, where their caller or their service wants that.
 *
 * @module
 */
import type { ServiceDescription } from "../calls.ts";
import { withDeadline } from "../deferred.ts";
import { NuropbNotDeliveredError, NuropbTimeoutError } from "../errors.ts";
import type { Message } from "../message.ts";
import type { Logger } from "../options.ts";
import type { PayloadKey } from "../wire/encryption.ts";
import { DESCRIBE_METHOD, withEncryptedBody } from "../wire/envelope.ts";
import type { Call } from "../wire/envelope.ts";
import { CallerKeys } from "../wire/session_keys.ts";
import { notDelivered } from "./correlator.ts";
import type { Discovery } from "./discovery.ts";

/** A call as it goes out. */
export interface SealedCall {
  readonly message: Message;
  /** Opens the answer; absent when the call is plain. */
  readonly key: PayloadKey | undefined;
  /** What it was decided by. */
  readonly description: ServiceDescription;
}

/** How long a command waits for its service to say whether it wants it encrypted, in ms. */
const COMMAND_PATIENCE = 2_000;

/** Decides for each call, by what its caller says or its service describes. */
export class Sealer {
  readonly #discovery: Discovery;
  readonly #logger: Logger;
  readonly #keys = new CallerKeys();

  /** @param discovery Asks services. @param logger Told of a command that goes out plain unasked. */
  constructor(discovery: Discovery, logger: Logger) {
    this.#discovery = discovery;
    this.#logger = logger;
  }

  /** Whether it is certain, without asking anyone, that a call goes out plain. */
  isKnownPlain({ service, method }: Call, encrypted: boolean | undefined): boolean {
    if (encrypted !== undefined || method === DESCRIBE_METHOD) return encrypted !== true;
    const known = this.#discovery.known(service);
    return known !== undefined && !requiresEncryption(known, method);
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
    const description = await this.#describe(call, false, deadline, signal);
    if (!(encrypted ?? requiresEncryption(description, call.method))) {
      return { message: plain, key: undefined, description };
    }
    const publicKey = await this.#discovery.publicKey(description);
    const { body, key } = await this.#keys.encrypt(plain.body, publicKey);
    return { message: withEncryptedBody(plain, body), key, description };
  }

  /** Encrypts a command if it is to be. It must also get into the queue of a service that is away just now. */
  async sealCommand(
    call: Call,
    plain: Message,
    encrypted: boolean | undefined,
    deadline: number,
    signal: AbortSignal | undefined,
  ): Promise<Message> {
    const patience = encrypted === undefined ? Math.min(deadline, Date.now() + COMMAND_PATIENCE) : deadline;
    try {
      return (await this.seal(call, plain, encrypted, patience, signal)).message;
    } catch (error) {
      if (encrypted !== undefined || !(error instanceof NuropbTimeoutError)) throw error;
      this.#logger.warn("a command goes out plain, since its service could not be asked", {
        service: call.service,
        method: call.method,
      });
      return plain;
    }
  }

  /** Asks the service again, and tells whether the call would go out in another way now. */
  async hasChanged(
    call: Call,
    before: ServiceDescription,
    deadline: number,
    signal: AbortSignal | undefined,
  ): Promise<boolean> {
    const now = await this.#describe(call, true, deadline, signal);
    return now.publicKey !== before.publicKey ||
      requiresEncryption(now, call.method) !== requiresEncryption(before, call.method);
  }

  /** The description of a call's service, within the call's own time. */
  async #describe(
    call: Call,
    refresh: boolean,
    deadline: number,
    signal: AbortSignal | undefined,
  ): Promise<ServiceDescription> {
    const { service, method } = call;
    try {
      const asked = this.#discovery.describe(service, refresh);
      return await withDeadline(timeLeft(call, deadline), signal, () => timedOut(call), () => asked);
    } catch (error) {
      // What is told is about the call, not about the asking.
      if (error instanceof NuropbNotDeliveredError) throw notDelivered(service, method, error);
      throw error;
    }
  }
}

/** How long a call has until its deadline, in ms. */
export function timeLeft(call: Call, deadline: number): number {
  const left = Math.ceil(deadline - Date.now());
  if (left <= 0) throw timedOut(call);
  return left;
}

function timedOut({ service, method, ttl }: Call): NuropbTimeoutError {
  return new NuropbTimeoutError(
    `No answer from ${service}.${method} within ${ttl} ms: its service did not answer`,
  );
}

function requiresEncryption({ methods }: ServiceDescription, method: string): boolean {
  return Object.hasOwn(methods, method) && methods[method]!.requiresEncryption;
}
