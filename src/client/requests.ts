/**
 * Requests and their answers: sent as their service describes that it wants them, and once more when it has changed
 * its mind.
 *
 * @module
 */
import type { MeshResponse, ServiceDescription } from "../calls.ts";
import { NuropbMessageError, NuropbTransportError } from "../errors.ts";
import type { IdSource } from "../ids.ts";
import { bytesOf } from "../message.ts";
import type { Message } from "../message.ts";
import type { Logger } from "../options.ts";
import type { Supervisor } from "../transport/supervisor.ts";
import { RPC_EXCHANGE } from "../transport/topology.ts";
import type { PayloadKey } from "../wire/encryption.ts";
import { decodeResponse, encodeCall, isEncrypted, isRefusal } from "../wire/envelope.ts";
import type { Call } from "../wire/envelope.ts";
import type { Integers } from "../wire/json.ts";
import type { Correlator } from "./correlator.ts";
import type { Discovery } from "./discovery.ts";
import { timeLeft } from "./sealer.ts";
import type { Sealer } from "./sealer.ts";

/** What requests go through. */
export interface RequestsOptions {
  readonly supervisor: Supervisor;
  readonly correlator: Correlator;
  readonly sealer: Sealer;
  readonly discovery: Discovery;
  readonly ids: IdSource;
  readonly logger: Logger;
  readonly integers: Integers;
  /** How many calls may wait for their service's description while there is no connection. */
  readonly maxPending: number;
}

/** How a call is to be sent. */
export interface Terms {
  /** What its caller says of encryption. */
  readonly encrypted: boolean | undefined;
  readonly idempotent: boolean;
  /** In ms since the epoch. */
  readonly deadline: number;
  readonly signal: AbortSignal | undefined;
}

/** Sends the requests of all callers of one mesh. */
export class Requests {
  readonly #options: RequestsOptions;
  /** Calls that wait for their service's description. */
  #sealing = 0;
  /** Methods whose warning was logged. */
  readonly #warned = new Set<string>();

  /** @param options What they go through. */
  constructor(options: RequestsOptions) {
    this.#options = options;
  }

  /** Sends a request, of which the plain message is given, and reads its answer. */
  answer(call: Call, plain: Message, terms: Terms): Promise<MeshResponse> {
    const { sealer, discovery } = this.#options;
    if (!sealer.isKnownPlain(call, terms.encrypted)) return this.#answerSealed(call, plain, terms);
    // Read as soon as it is there: most requests go this way, and each turn of a promise counts.
    return this.#send(plain, call, call.ttl ?? timeLeft(call, terms.deadline), terms, (answer) => {
      const response = this.#read(call, answer);
      if (terms.encrypted !== undefined || !isRefusal(answer)) return response;
      return this.#sendAgain(call, terms, response, discovery.known(call.service));
    });
  }

  async #answerSealed(call: Call, plain: Message, terms: Terms): Promise<MeshResponse> {
    const { sealer } = this.#options;
    const { encrypted, deadline, signal } = terms;
    const first = await this.#limited(call, () => sealer.seal(call, plain, encrypted, deadline, signal));
    const answer = await this.#send(first.message, call, timeLeft(call, deadline), terms, itself);
    let response: MeshResponse;
    try {
      response = await this.#open(call, answer, first.key);
    } catch (error) {
      // A Python service that could not read the request answers what cannot be read in turn.
      if (!(error instanceof NuropbMessageError)) throw error;
      return await this.#sendAgain(call, terms, error, first.description);
    }
    return isRefusal(answer) ? await this.#sendAgain(call, terms, response, first.description) : response;
  }

  /** A command as it goes out. */
  async sealCommand(call: Call, plain: Message, terms: Omit<Terms, "idempotent">): Promise<Message> {
    const { sealer } = this.#options;
    const { encrypted, deadline, signal } = terms;
    if (sealer.isKnownPlain(call, encrypted)) return plain;
    const seal = () => sealer.sealCommand(call, plain, encrypted, deadline, signal);
    return (await this.#limited(call, seal)).message;
  }

  #send<Answer>(
    message: Message,
    call: Call,
    left: number,
    { idempotent, signal }: Terms,
    read: (answer: Message) => Answer | Promise<Answer>,
  ): Promise<Answer> {
    const { correlator, supervisor } = this.#options;
    const { service, method, ttl = left } = call;
    return correlator.call(
      message,
      { service, method, ttl, left, idempotent, signal },
      supervisor.connection,
      read,
    );
  }

  /** Sends a request once more, when its service now wants it in another way, or has another key. */
  async #sendAgain(
    call: Call,
    terms: Terms,
    outcome: MeshResponse | NuropbMessageError,
    before: ServiceDescription | undefined,
  ): Promise<MeshResponse> {
    const { sealer, ids } = this.#options;
    const { encrypted, deadline, signal } = terms;
    if (await sealer.hasChanged(call, before, deadline, signal)) {
      // Under a new id, so that a second answer to the first one is not taken for its own.
      const again = { ...call, correlationId: ids.next() };
      const plain = encodeCall(again, RPC_EXCHANGE);
      const second = await this.#limited(again, () => sealer.seal(again, plain, encrypted, deadline, signal));
      const answer = await this.#send(second.message, again, timeLeft(again, deadline), terms, itself);
      return await this.#open(again, answer, second.key);
    }
    if (outcome instanceof NuropbMessageError) throw outcome;
    return outcome;
  }

  /** Reads an answer, which is encrypted as its request was. */
  async #open(call: Call, answer: Message, key: PayloadKey | undefined): Promise<MeshResponse> {
    if (key === undefined) return this.#read(call, answer);
    if (isEncrypted(answer)) return this.#read(call, answer, await key.decrypt(bytesOf(answer.body)));
    // A service that could not open the request has no key for its answer: that may be an error, and no result.
    const refusal = this.#read(call, answer);
    if (refusal.error !== null) return refusal;
    throw new NuropbMessageError(`${call.service}.${call.method} answered an encrypted request in plain`);
  }

  #read({ service, method, correlationId }: Call, answer: Message, body?: Uint8Array): MeshResponse {
    const response = decodeResponse(answer, body, this.#options.integers);
    if (response.correlationId !== correlationId) {
      throw new NuropbMessageError(`The answer to ${service}.${method} is one to another request`);
    }
    if (response.warning !== null) this.#warn(service, method, response.warning);
    return response;
  }

  /** Passes a service's remark on to the log, once for each method. */
  #warn(service: string, method: string, warning: string): void {
    const name = `${service}.${method}`;
    if (this.#warned.has(name)) return;
    this.#warned.add(name);
    this.#options.logger.warn(`${name} warns its callers`, { service, method, warning });
  }

  /** Seals a call; while the connection is away only so many may wait for what their service says of itself. */
  async #limited<Sealed>({ service, method }: Call, seal: () => Promise<Sealed>): Promise<Sealed> {
    const { maxPending, supervisor } = this.#options;
    if (supervisor.connection === undefined && this.#sealing >= maxPending) {
      throw new NuropbTransportError(
        `${service}.${method} was not sent: ${maxPending} calls wait for the connection already`,
        { code: "TOO_MANY_PENDING" },
      );
    }
    this.#sealing++;
    try {
      return await seal();
    } finally {
      this.#sealing--;
    }
  }
}

function itself(answer: Message): Message {
  return answer;
}
