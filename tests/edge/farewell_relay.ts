/**
 * A relay to a broker that sees how its clients leave.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { connect } from "node:net";
import { listen } from "../conformance/listener.ts";

/** A running relay. */
export interface FarewellRelay extends AsyncDisposable {
  /** The broker's url, by way of the relay. */
  readonly url: string;
  /** How many connections there were, how many are open, and how many clients closed theirs as AMQP has it. */
  counts(): { opened: number; open: number; goodbyes: number };
}

/** The method `connection.close`, after the type, channel and size of its frame. */
const CONNECTION_CLOSE = Buffer.from([0, 10, 0, 50]);

/** Where a frame tells its size, how much comes before what it carries, and how much with its end. */
const [SIZE_AT, HEADER_SIZE, FRAME_EXTRA] = [3, 7, 8];

/** Starts a relay to the broker of an `amqp:` url. */
export async function startFarewellRelay(broker: string): Promise<FarewellRelay> {
  const target = new URL(broker);
  let goodbyes = 0;
  const listener = await listen((near) => {
    const far = connect({ host: target.hostname, port: Number(target.port), noDelay: true });
    near.setNoDelay(true);
    near.pipe(far);
    far.pipe(near);
    for (const [socket, other] of [[near, far], [far, near]] as const) {
      socket.on("error", () => {});
      socket.on("close", () => other.destroy());
    }
    const sent: Uint8Array[] = [];
    near.on("data", (bytes: Uint8Array) => void sent.push(bytes));
    near.on("close", () => void (goodbyes += saysGoodbye(Buffer.concat(sent)) ? 1 : 0));
  });
  return {
    url: `amqp://${target.username}:${target.password}@127.0.0.1:${listener.port}${target.pathname}`,
    counts: () => ({ ...listener.connections, goodbyes }),
    [Symbol.asyncDispose]: () => listener.close(),
  };
}

/** Whether a frame of what a client sent, after its protocol header, is a goodbye. */
function saysGoodbye(sent: Buffer): boolean {
  let rest = sent.subarray("AMQP0091".length);
  while (rest.length > FRAME_EXTRA) {
    if (rest.subarray(HEADER_SIZE).indexOf(CONNECTION_CLOSE) === 0) return true;
    rest = rest.subarray(rest.readUInt32BE(SIZE_AT) + FRAME_EXTRA);
  }
  return false;
}
