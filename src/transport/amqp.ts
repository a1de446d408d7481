/**
 * Opens connections to RabbitMQ, and to whatever else speaks AMQP 0-9-1: pipelined, or step by step where a broker does
 * not like that.
 *
 * @module
 */
import { NuropbException, NuropbTransportError } from "../errors.ts";
import { dial } from "../runtime/dial.ts";
import { AmqpConnection } from "./amqp_connection.ts";
import type { AmqpOptions } from "./amqp_connection.ts";
import { AmqpSocket } from "./amqp_socket.ts";
import { isLost } from "./supervised_consumer.ts";
import type { Connection, ConnectionHandlers } from "./transport.ts";

/**
 * Opens a connection to a broker.
 *
 * @throws {NuropbTransportError} when it cannot be reached or refuses. Rejects with the signal's reason on abort.
 */
export async function openAmqp(
  options: AmqpOptions,
  handlers: ConnectionHandlers,
  signal: AbortSignal,
): Promise<Connection> {
  const { handshake } = options;
  if (!handshake.pipelined) return await openOnce(options, false, handlers, signal);
  try {
    return await openOnce(options, true, handlers, signal);
  } catch (error) {
    if (!(error instanceof PipeliningFailed)) throw error;
    const connection = await openOnce(options, false, handlers, signal);
    handshake.pipelined = false;
    return connection;
  }
}

/** The broker did not open a connection that it may open step by step. */
class PipeliningFailed extends NuropbTransportError {
  constructor(cause: NuropbTransportError) {
    super(cause.message, { cause });
  }
}

async function openOnce(
  options: AmqpOptions,
  pipelined: boolean,
  handlers: ConnectionHandlers,
  signal: AbortSignal,
): Promise<Connection> {
  const { host, port } = options.address;
  const byteSocket = await dial(options.address, signal).catch((cause: unknown) => {
    signal.throwIfAborted();
    throw new NuropbTransportError(`No broker can be reached at ${host}:${port}: ${text(cause)}`, {
      code: "CONNECT_FAILED",
      cause,
    });
  });
  const socket = new AmqpSocket(byteSocket, options);
  let goodbye: Promise<void> | undefined;
  const abort = () => {
    // An owner who has had an answer already may close what is not set up in all its parts yet.
    if (socket.handshake === "done" && isClosed(signal.reason)) goodbye = socket.shutdown();
    else socket.end();
  };
  signal.addEventListener("abort", abort);
  try {
    const connection = new AmqpConnection(socket, options, handlers);
    await connection.open(pipelined, options.declare);
    return connection;
  } catch (failure) {
    const error: unknown = signal.aborted ? signal.reason : failure;
    await goodbye;
    socket.end();
    if (pipelined) {
      // A broker that closed the connection itself has not taken what was sent with the handshake.
      const taken = socket.handshake !== "refused" && !socket.askedTooMuch;
      handlers.onreset(
        error instanceof NuropbException ? error : new NuropbTransportError(text(error), { cause: error }),
        taken,
      );
    }
    signal.throwIfAborted();
    if (pipelined && mayOpenStepwise(socket, error)) throw new PipeliningFailed(error);
    // Whatever went wrong on the way, there was no connection yet that could be lost.
    if (!isLost(error)) throw error;
    // What lies behind a loss tells more: a TLS alert, say.
    const { cause } = error as NuropbTransportError;
    const reason = cause === undefined ? text(error) : `${text(error)}: ${text(cause)}`;
    const advice = options.mechanism === "EXTERNAL"
      ? ". Does the broker take SASL EXTERNAL? If not, name an account in the url"
      : "";
    throw new NuropbTransportError(`No connection could be opened to ${host}:${port}: ${reason}${advice}`, {
      code: "CONNECT_FAILED",
      cause: error,
    });
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

/** Whether an attempt ends because its mesh is closed. */
function isClosed(reason: unknown): boolean {
  return reason instanceof NuropbTransportError && reason.code === "CLOSED";
}

/** Whether a broker may only have disliked to be told everything at once. */
function mayOpenStepwise(socket: AmqpSocket, error: unknown): error is NuropbTransportError {
  if (!(error instanceof NuropbTransportError)) return false;
  switch (socket.handshake) {
    case "running":
      return error.code === "CONNECTION_LOST";
    case "refused":
      return error.code !== "ACCESS_REFUSED" && error.code !== "VHOST_NOT_FOUND";
    case "done":
      return false;
  }
}

function text(cause: unknown): string {
  return cause instanceof Error ? cause.message || cause.name : String(cause);
}
