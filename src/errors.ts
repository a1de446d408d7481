/**
 * The error classes of the mesh, named as they are on the wire, and the codes that tell their causes apart.
 *
 * @module
 */

/**
 * Why an operation failed. Stable: switch on `code` rather than on the text.
 *
 * | code | meaning |
 * |---|---|
 * | `TIMEOUT` | no answer, confirm or connection within the deadline |
 * | `NOT_DELIVERED` | no service takes messages under that name |
 * | `CONNECTION_LOST` | the connection went away before the outcome was known |
 * | `CONNECT_FAILED` | the broker could not be reached within `connectTimeout` |
 * | `ACCESS_REFUSED` | the broker refused the credentials or a permission |
 * | `VHOST_NOT_FOUND` | the virtual host does not exist |
 * | `PRECONDITION_FAILED` | a queue or exchange exists with other settings |
 * | `NOT_FOUND` | a queue or exchange does not exist |
 * | `CHANNEL_CLOSED` | the broker closed the channel, or refused the message, for another reason |
 * | `CLOSED` | the mesh or service was closed by its owner |
 * | `TOO_MANY_PENDING` | `maxPending` calls wait already |
 * | `MESSAGE_TOO_LARGE` | a body over `maxMessageSize`, or headers over the frame size |
 * | `INVALID_URL` | the url cannot be used |
 * | `INVALID_ARGUMENT` | an argument or option cannot be used; nothing was sent |
 * | `INVALID_PARAMS` | the params do not match the method's schema |
 * | `INVALID_MESSAGE` | a message from a peer that cannot be read |
 * | `UNKNOWN_METHOD` | the service has no such method |
 * | `UNAUTHENTICATED` | the caller is not known |
 * | `FORBIDDEN` | the caller is known and not allowed |
 * | `DEPRECATED` | the method is no longer to be used |
 * | `CALL_AGAIN` | the message is to be delivered once more |
 * | `CALL_AGAIN_REJECTED` | it was delivered once more and the service asked again |
 * | `HANDLER_FAILED` | the service's method threw, or returned what JSON cannot carry |
 */
export type NuropbErrorCode =
  | "TIMEOUT"
  | "NOT_DELIVERED"
  | "CONNECTION_LOST"
  | "CONNECT_FAILED"
  | "ACCESS_REFUSED"
  | "VHOST_NOT_FOUND"
  | "PRECONDITION_FAILED"
  | "NOT_FOUND"
  | "CHANNEL_CLOSED"
  | "CLOSED"
  | "TOO_MANY_PENDING"
  | "MESSAGE_TOO_LARGE"
  | "INVALID_URL"
  | "INVALID_ARGUMENT"
  | "INVALID_PARAMS"
  | "INVALID_MESSAGE"
  | "UNKNOWN_METHOD"
  | "UNAUTHENTICATED"
  | "FORBIDDEN"
  | "DEPRECATED"
  | "CALL_AGAIN"
  | "CALL_AGAIN_REJECTED"
  | "HANDLER_FAILED";

/** What the peer said of an error that happened on its side. */
export interface RemoteError {
  /** The error's name there: `NuropbValidationError`, `ValueError`, `TypeError`… */
  readonly name: string;
  /** Its text there. */
  readonly description: string;
}

/** What an error of the mesh can carry besides its text. */
export interface NuropbErrorOptions extends ErrorOptions {
  /** Why it failed. Each class has a default of its own. */
  code?: NuropbErrorCode;
  /** Given when the error came from a peer. */
  remote?: RemoteError;
}

/**
 * The base of every error of the mesh, and the class of a peer's error that has none of its own:
 * a Python `ValueError` arrives as `NuropbException` with `remote.name === "ValueError"`.
 *
 * @example
 * ```ts
 * import { NuropbException } from "@nuropb/mesh";
 *
 * const error = new NuropbException("the order is locked");
 * console.log(error.name, error.code, error.description);
 * ```
 */
export class NuropbException extends Error {
  /** The name that goes over the wire; a subclass of yours keeps that of its parent. */
  static readonly wireName: string = "NuropbException";
  /** The code when none is given. */
  static readonly defaultCode: NuropbErrorCode = "HANDLER_FAILED";

  /** Why it failed. */
  readonly code: NuropbErrorCode;
  /** The peer's own name and text, when the error came from a peer. */
  readonly remote?: RemoteError;

  /**
   * Makes an error.
   *
   * @param description What was asked of whom, what went wrong, what to do.
   * @param options The code, the cause, and what the peer said.
   */
  constructor(description: string, options: NuropbErrorOptions = {}) {
    super(description, "cause" in options ? { cause: options.cause } : undefined);
    this.code = options.code ?? new.target.defaultCode;
    if (options.remote !== undefined) this.remote = options.remote;
  }

  /** The name that goes over the wire. */
  override get name(): string {
    return (this.constructor as typeof NuropbException).wireName;
  }

  /** The text that goes over the wire; the same as `message`. */
  get description(): string {
    return this.message;
  }
}

/** No answer, confirm or connection within the deadline. The outcome of a request is unknown. */
export class NuropbTimeoutError extends NuropbException {
  /** The name that goes over the wire. */
  static override readonly wireName: string = "NuropbTimeoutError";
  /** The code when none is given. */
  static override readonly defaultCode: NuropbErrorCode = "TIMEOUT";
}

/** The broker could not be reached, refused, or went away. For a request the outcome is unknown. */
export class NuropbTransportError extends NuropbException {
  /** The name that goes over the wire. */
  static override readonly wireName: string = "NuropbTransportError";
  /** The code when none is given. */
  static override readonly defaultCode: NuropbErrorCode = "CONNECTION_LOST";
}

/** A message that cannot be read, or is too large to send. */
export class NuropbMessageError extends NuropbException {
  /** The name that goes over the wire. */
  static override readonly wireName: string = "NuropbMessageError";
  /** The code when none is given. */
  static override readonly defaultCode: NuropbErrorCode = "INVALID_MESSAGE";
}

/** The service could not run the method: it has none of that name, or its result is nothing that JSON carries. */
export class NuropbHandlingError extends NuropbException {
  /** The name that goes over the wire. */
  static override readonly wireName: string = "NuropbHandlingError";
  /** The code when none is given. */
  static override readonly defaultCode: NuropbErrorCode = "HANDLER_FAILED";
}

/** The method is no longer to be used. */
export class NuropbDeprecatedError extends NuropbException {
  /** The name that goes over the wire. */
  static override readonly wireName: string = "NuropbDeprecatedError";
  /** The code when none is given. */
  static override readonly defaultCode: NuropbErrorCode = "DEPRECATED";
}

/** An argument, an option or a method's params are not as they must be. */
export class NuropbValidationError extends NuropbException {
  /** The name that goes over the wire. */
  static override readonly wireName: string = "NuropbValidationError";
  /** The code when none is given. */
  static override readonly defaultCode: NuropbErrorCode = "INVALID_PARAMS";
}

/** The service does not know who calls. */
export class NuropbAuthenticationError extends NuropbException {
  /** The name that goes over the wire. */
  static override readonly wireName: string = "NuropbAuthenticationError";
  /** The code when none is given. */
  static override readonly defaultCode: NuropbErrorCode = "UNAUTHENTICATED";
}

/** The service knows who calls and does not allow it. */
export class NuropbAuthorizationError extends NuropbException {
  /** The name that goes over the wire. */
  static override readonly wireName: string = "NuropbAuthorizationError";
  /** The code when none is given. */
  static override readonly defaultCode: NuropbErrorCode = "FORBIDDEN";
}

/** No service takes messages under that name. */
export class NuropbNotDeliveredError extends NuropbException {
  /** The name that goes over the wire. */
  static override readonly wireName: string = "NuropbNotDeliveredError";
  /** The code when none is given. */
  static override readonly defaultCode: NuropbErrorCode = "NOT_DELIVERED";
}

/** Thrown by a method to have its message delivered once more, perhaps to another instance. */
export class NuropbCallAgain extends NuropbException {
  /** The name that goes over the wire. */
  static override readonly wireName: string = "NuropbCallAgain";
  /** The code when none is given. */
  static override readonly defaultCode: NuropbErrorCode = "CALL_AGAIN";

  /**
   * Makes one, to be thrown.
   *
   * @param description Why, for the service's own log.
   * @param options The cause.
   */
  constructor(description = "The method asked to be called again", options: NuropbErrorOptions = {}) {
    super(description, options);
  }
}

/** What the caller gets when the second delivery asked to be called again too. */
export class NuropbCallAgainReject extends NuropbException {
  /** The name that goes over the wire. */
  static override readonly wireName: string = "NuropbCallAgainReject";
  /** The code when none is given. */
  static override readonly defaultCode: NuropbErrorCode = "CALL_AGAIN_REJECTED";
}

/** The classes that a peer's error can become; `NuropbCallAgain` is no answer. */
const classesByName: ReadonlyMap<string, typeof NuropbException> = new Map(
  [
    NuropbException,
    NuropbTimeoutError,
    NuropbTransportError,
    NuropbMessageError,
    NuropbHandlingError,
    NuropbDeprecatedError,
    NuropbValidationError,
    NuropbAuthenticationError,
    NuropbAuthorizationError,
    NuropbNotDeliveredError,
    NuropbCallAgainReject,
  ].map((ErrorClass) => [ErrorClass.wireName, ErrorClass]),
);

/** The text of a synchronous Python method's plain exception, which hides the exception's own name. */
const pythonRuntimeException = /^Runtime exception calling [^:]+:([A-Za-z_]\w*): ?([\s\S]*)$/;

/** The error that a caller gets for one that a peer sent. */
export function fromRemote(name: string, description: string): NuropbException {
  const hidden = name === "NuropbException" ? pythonRuntimeException.exec(description) : null;
  const remote = hidden ? { name: hidden[1]!, description: hidden[2]! } : { name, description };
  const ErrorClass = classesByName.get(name) ?? NuropbException;
  return new ErrorClass(description, {
    remote,
    ...(ErrorClass === NuropbHandlingError && description.startsWith("Unknown method ")
      ? { code: "UNKNOWN_METHOD" }
      : {}),
  });
}

/** The name and text under which anything that a method threw goes over the wire. Never throws itself. */
export function toRemote(thrown: unknown): RemoteError {
  try {
    if (thrown instanceof NuropbException) {
      return { name: String(thrown.name), description: String(thrown.description) };
    }
    if (thrown instanceof Error) {
      return { name: String(thrown.name) || "Error", description: String(thrown.message) };
    }
    return { name: "NuropbException", description: `thrown: ${String(thrown)}` };
  } catch {
    // A hostile getter or toString: the caller still gets an error.
    return { name: "NuropbException", description: "thrown: a value without a text" };
  }
}

/** What was thrown, if it is an error that can be looked at; else one that tells of it. */
export function asError(thrown: unknown): Error {
  try {
    if (thrown instanceof Error) return thrown;
  } catch {
    // A proxy that does not let its prototype be asked for.
  }
  return new NuropbException(toRemote(thrown).description);
}

/** What went wrong, for a log or within another error. */
export function reasonOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
