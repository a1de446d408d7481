/**
 * Hands bytes on to a broker and back, and puts an acknowledgement among them that the client never sent: nothing that
 * a user can do makes one, since each delivery can be settled once.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { connect } from "node:net";
import type { Socket } from "node:net";
import { listen } from "../conformance/listener.ts";
import { method } from "../transport/fake_broker.ts";

/** What a channel is used for, from the method that tells it. */
type Use = "confirms" | `consumes ${string}`;

/** A running relay. */
export interface AckRelay {
  /** The broker's url, by way of the relay. */
  readonly url: string;
  /** Acknowledges what was never delivered, on the channel of this use. The broker closes that channel. */
  acknowledge(use: Use): void;
  close(): Promise<void>;
}

const PROTOCOL_HEADER_SIZE = 8;
const FRAME_OVERHEAD = 8;
const UNKNOWN_TAG = 1_000_000;

/** Starts a relay to the broker of a url. */
export async function ackRelay(url: string): Promise<AckRelay> {
  const target = new URL(url);
  const channels = new Map<Use, { socket: Socket; channel: number }>();
  const listener = await listen((near) => {
    const far = connect({ host: target.hostname, port: Number(target.port) });
    let input = Buffer.alloc(0);
    let at = PROTOCOL_HEADER_SIZE;
    near.on("data", (bytes) => {
      input = Buffer.concat([input, bytes]);
      // Whole frames alone are handed on, so that there is room for one more after each of them.
      while (
        input.length >= at + FRAME_OVERHEAD &&
        input.length >= at + FRAME_OVERHEAD + input.readUInt32BE(at + 3)
      ) {
        const end = at + FRAME_OVERHEAD + input.readUInt32BE(at + 3);
        const use = useOf(input.subarray(at, end));
        if (use !== undefined) channels.set(use, { socket: far, channel: input.readUInt16BE(at + 1) });
        at = end;
      }
      far.write(input.subarray(0, at));
      input = input.subarray(at);
      at = 0;
    });
    far.on("data", (bytes) => void near.write(bytes));
    for (const [one, other] of [[near, far], [far, near]] as const) {
      one.setNoDelay(true);
      one.on("error", () => other.destroy());
      one.on("close", () => other.destroy());
    }
  });
  return {
    url: Object.assign(new URL(url), { host: `127.0.0.1:${listener.port}` }).href,
    acknowledge(use) {
      const { socket, channel } = channels.get(use) ?? assert.fail(`No channel ${use}`);
      socket.write(method(channel, "basic.ack", { deliveryTag: UNKNOWN_TAG }));
    },
    close: listener.close,
  };
}

function useOf(frame: Buffer): Use | undefined {
  if (frame.readUInt8(0) !== 1) return undefined;
  switch (`${frame.readUInt16BE(7)}.${frame.readUInt16BE(9)}`) {
    case "60.20":
      return `consumes ${frame.toString("utf8", 14, 14 + frame.readUInt8(13))}`;
    case "85.10":
      return "confirms";
  }
  return undefined;
}
