/**
 * What to do about a TLS connection that could not be opened, whichever runtime tells of it.
 *
 * @module
 */

const SHOW_CERTIFICATE = "give a certificate that the broker accepts as tls.cert, and its tls.key";

/** Runtimes, and the TLS libraries below them, each have words of their own for the same faults. */
const ADVICE: readonly (readonly [fault: RegExp, advice: string])[] = [
  // First, since a broker's own alerts name the same faults.
  [/alert/i, `the broker refuses the client: ${SHOW_CERTIFICATE}`],
  [/altname|not valid for name/i, "connect by a name that is in the broker's certificate"],
  [/expired|not yet valid|not valid yet/i, "renew the broker's certificate, or set this machine's clock"],
  [
    /unable to (verify|get)|self.signed|UnknownIssuer|bad.?signature|signature failure/i,
    "give the authority that signed the broker's certificate as tls.ca, and look whether it has expired",
  ],
];

/** The runtime's error, with what to do about it where that is known. */
export function withAdvice(error: Error): Error {
  const { message } = error;
  const [, advice] = ADVICE.find(([fault]) => fault.test(message)) ?? [];
  return advice === undefined ? error : new Error(`${message.trim()} (${advice})`, { cause: error });
}

/**
 * Why a TLS connection was closed before anything came in over it. Who misses a certificate sends an alert, which
 * the closing may overtake.
 */
export function closedEarly(error: Error | undefined): Error {
  const advised = error && withAdvice(error);
  if (advised !== undefined && advised !== error) return advised;
  const text =
    "The broker closed the connection before it said anything, as it does without a client certificate";
  return new Error(`${text} (${SHOW_CERTIFICATE})`, error === undefined ? {} : { cause: error });
}
