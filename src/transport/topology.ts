/**
 * What NuroPb names on a broker, and how each thing is declared, as data.
 *
 * @module
 */

/** The direct exchange that requests and commands go through, by service name. */
export const RPC_EXCHANGE = "nuropb-rpc-exchange";
/** The topic exchange that events go through. */
export const EVENTS_EXCHANGE = "nuropb-events-exchange";
/** The fanout exchange that failed messages go to. */
export const DEAD_LETTER_EXCHANGE = "nuropb-dl-exchange";
/** Our durable queue of failed messages; Python's own, `nuropb-dl-queue`, must stay as Python declares it. */
export const DEAD_LETTER_QUEUE = "nuropb-dead-letters";
/** RabbitMQ's pseudo queue: answers come to the channel that asked, without any queue. */
export const DIRECT_REPLY_TO = "amq.rabbitmq.reply-to";

/** Whether an address is what the broker makes of direct reply-to: one channel's own. */
export function isDirectReplyTo(address: string): boolean {
  return address.startsWith(`${DIRECT_REPLY_TO}.`);
}

/** An exchange. Those of a mesh are durable. */
export interface ExchangeDeclaration {
  readonly kind: "exchange";
  readonly name: string;
  readonly type: "direct" | "topic" | "fanout";
}

/** A queue. */
export interface QueueDeclaration {
  readonly kind: "queue";
  readonly name: string;
  /** Survives a restart of the broker. */
  readonly durable: boolean;
  /** Belongs to the connection that declared it, and goes with it. */
  readonly exclusive: boolean;
  /** Goes when its last consumer has gone. */
  readonly autoDelete: boolean;
  readonly arguments: Readonly<Record<string, string | number>>;
}

/** A queue bound to an exchange under a routing key or topic pattern. */
export interface BindingDeclaration {
  readonly kind: "binding";
  readonly queue: string;
  readonly exchange: string;
  readonly routingKey: string;
}

/** One thing to declare on a broker. */
export type Declaration = ExchangeDeclaration | QueueDeclaration | BindingDeclaration;

/** The three exchanges of every mesh. */
export const meshExchanges: readonly ExchangeDeclaration[] = [
  { kind: "exchange", name: RPC_EXCHANGE, type: "direct" },
  { kind: "exchange", name: EVENTS_EXCHANGE, type: "topic" },
  { kind: "exchange", name: DEAD_LETTER_EXCHANGE, type: "fanout" },
];

/** The exchanges and the queue that keeps what failed. */
export const meshTopology: readonly Declaration[] = [
  ...meshExchanges,
  {
    kind: "queue",
    name: DEAD_LETTER_QUEUE,
    durable: true,
    exclusive: false,
    autoDelete: false,
    arguments: {},
  },
  { kind: "binding", queue: DEAD_LETTER_QUEUE, exchange: DEAD_LETTER_EXCHANGE, routingKey: "" },
];

/** The queue that all instances of a service share. */
export function serviceQueue(service: string): string {
  return `nuropb-${service}-sq`;
}

/** A message that fails stays in its queue until that of the dead letters has confirmed it, which classic queues cannot. */
const QUORUM_ARGUMENTS = {
  "x-queue-type": "quorum",
  "x-dead-letter-strategy": "at-least-once",
  "x-overflow": "reject-publish",
};

/**
 * What a service needs. A classic queue takes exactly these arguments, since a Python instance of the same service
 * declares it too and the broker refuses any difference.
 */
export function serviceTopology(
  service: string,
  topics: readonly string[],
  { queueType, deliveryLimit }: { queueType: "classic" | "quorum"; deliveryLimit?: number | undefined },
): readonly Declaration[] {
  const queue = serviceQueue(service);
  return [
    ...meshTopology,
    {
      kind: "queue",
      name: queue,
      durable: true,
      exclusive: false,
      autoDelete: false,
      arguments: {
        "x-dead-letter-exchange": DEAD_LETTER_EXCHANGE,
        ...(queueType === "quorum" ? QUORUM_ARGUMENTS : {}),
        ...(deliveryLimit === undefined ? {} : { "x-delivery-limit": deliveryLimit }),
      },
    },
    { kind: "binding", queue, exchange: RPC_EXCHANGE, routingKey: service },
    ...topics.map((topic): Declaration => ({
      kind: "binding",
      queue,
      exchange: EVENTS_EXCHANGE,
      routingKey: topic,
    })),
  ];
}

/** A queue that one connection alone reads, gone with it. Never transient and shared: RabbitMQ 4.3 refuses that. */
export function privateQueue(name: string): QueueDeclaration {
  return { kind: "queue", name, durable: false, exclusive: true, autoDelete: true, arguments: {} };
}

/** What one subscriber needs: a queue of its own, bound to its topics. */
export function subscriptionTopology(
  queue: string,
  topics: readonly string[],
  declare = true,
): readonly Declaration[] {
  return [
    ...(declare ? [meshExchanges[1]!] : []),
    privateQueue(queue),
    ...topics.map((topic): Declaration => ({
      kind: "binding",
      queue,
      exchange: EVENTS_EXCHANGE,
      routingKey: topic,
    })),
  ];
}
