/**
 * Reads what the broker tells of a dead letter, and sends it back.
 *
 * @module
 */
import type { DeadLetter } from "../calls.ts";
import { NuropbMessageError, NuropbNotDeliveredError, NuropbTransportError } from "../errors.ts";
import { randomId } from "../ids.ts";
import { bytesOf } from "../message.ts";
import type { Message } from "../message.ts";
import type { Delivery } from "../transport/transport.ts";

/** Publishes with a confirm, to a queue that must be there. */
export type PublishTo = (message: Message) => Promise<void>;

/** One entry of the `x-death` header: the latest comes first. */
interface Death {
  readonly queue?: unknown;
  readonly reason?: unknown;
  readonly count?: unknown;
  readonly time?: unknown;
  readonly exchange?: unknown;
  readonly "routing-keys"?: unknown;
}

/**
 * A delivery from the queue of dead letters, read.
 *
 * @param isGivenBack Whether its reader has left, whose consumer may take a moment longer to end.
 */
export function deadLetterOf(delivery: Delivery, publish: PublishTo, isGivenBack: () => boolean): DeadLetter {
  const { properties, body } = delivery;
  const headers = withoutHistory(properties.headers);
  const deaths = properties.headers["x-death"];
  const death: Death = Array.isArray(deaths) && typeof deaths[0] === "object" && deaths[0] !== null
    ? deaths[0]
    : {};
  const queue = typeof death.queue === "string" ? death.queue : "";
  const routingKeys = Array.isArray(death["routing-keys"]) ? death["routing-keys"] : [];
  const type = headers["nuropb_type"];
  let replayed: Promise<void> | undefined;
  const replay = async () => {
    if (queue === "") {
      throw new NuropbNotDeliveredError("The dead letter does not tell which queue it was in");
    }
    if (delivery.oversize !== undefined) {
      throw new NuropbMessageError(
        `The dead letter's body of ${delivery.oversize} bytes is larger than maxMessageSize, so it is not here`,
        { code: "MESSAGE_TOO_LARGE" },
      );
    }
    if (delivery.settled || isGivenBack()) {
      throw new NuropbTransportError(
        "The dead letter was discarded, or is the broker's again: read it anew",
        {
          code: "CLOSED",
        },
      );
    }
    // Through the default exchange, straight to that queue: other listeners of an event had it already. Under a new
    // id, for the same event may be replayed to several of them at once.
    const messageId = randomId();
    await publish({
      exchange: "",
      routingKey: queue,
      properties: { ...properties, messageId, expiration: undefined, persistent: true, headers },
      body,
    });
    delivery.ack();
  };
  return {
    service: /^nuropb-(.+)-sq$/.exec(queue)?.[1] ?? null,
    type: typeof type === "string" ? type : null,
    reason: typeof death.reason === "string" ? death.reason : "rejected",
    count: Number(death.count ?? 1),
    time: death.time instanceof Date ? death.time : new Date(),
    message: {
      exchange: typeof death.exchange === "string" ? death.exchange : delivery.exchange,
      routingKey: String(routingKeys[0] ?? delivery.routingKey),
      correlationId: properties.correlationId ?? null,
      headers,
      body: bytesOf(body),
    },
    replay: () =>
      replayed ??= replay().catch((error: unknown) => {
        replayed = undefined;
        throw error;
      }),
    discard: () => {
      if (!isGivenBack()) delivery.ack();
    },
  };
}

/** Headers as they were before the broker wrote its history into them. */
function withoutHistory(headers: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(headers).filter(([name]) => name !== "x-death" && !/^x-(first|last)-death-/.test(name)),
  );
}
