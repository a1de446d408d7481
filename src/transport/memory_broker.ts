/**
 * The embedded broker behind `memory:` urls: RabbitMQ's semantics for what a mesh uses, within one process.
 * Routing happens where a message is published; deliveries, answers and notices always come in a later microtask.
 *
 * @module
 */
import { NuropbTransportError } from "../errors.ts";
import type { NuropbErrorCode } from "../errors.ts";
import { IdSource } from "../ids.ts";
import type { Message } from "../message.ts";
import { copyMessage, deadLetter } from "./memory_message.ts";
import { MemoryQueue } from "./memory_queue.ts";
import type { DeathReason, MemoryLink, MemoryQueueInfo, QueueHost } from "./memory_queue.ts";
import { matchesTopic, topicWords } from "./topic_pattern.ts";
import { DIRECT_REPLY_TO } from "./topology.ts";
import type { BindingDeclaration, Declaration, ExchangeDeclaration, QueueDeclaration } from "./topology.ts";

interface Binding {
  readonly words: readonly string[];
  readonly queues: Set<MemoryQueue>;
}

/** How many tasks run as microtasks before the event loop gets a turn: some tens of milliseconds' worth. */
const TASKS_PER_TURN = 16_384;
const noQueues: ReadonlySet<MemoryQueue> = new Set();

/** One broker in the process. */
export class MemoryBroker {
  /** The name behind `memory:`; the virtual host in the texts of errors. */
  readonly name: string;
  readonly #exchanges = new Map<string, Exchange>();
  readonly #queues = new Map<string, MemoryQueue>();
  readonly #links = new Map<string, MemoryLink>();
  readonly #ids = new IdSource();
  readonly #host: QueueHost;
  #tasks = 0;
  #nextTurn: { readonly timer: ReturnType<typeof setTimeout>; readonly tasks: (() => void)[] } | undefined;

  /** @param name The name behind `memory:`. */
  constructor(name: string) {
    this.name = name;
    const links = this.#links;
    this.#host = {
      get awake() {
        return links.size > 0;
      },
      defer: (task) => this.defer(task),
      bury: (message, queue, reason) => this.#bury(message, queue, reason),
      drop: (queue) => this.#drop(queue),
    };
  }

  /** Every queue, for tests to look at. */
  queues(): MemoryQueueInfo[] {
    return [...this.#queues.values()].map(({ declaration, ready, unacked, consumers }) => ({
      name: declaration.name,
      ready,
      unacked,
      consumers,
    }));
  }

  /** Breaks every open connection, as a network or a broker's restart would; each is told in `onclose`. */
  disconnectAll(reason: string): void {
    for (const link of [...this.#links.values()]) {
      link.lose(new NuropbTransportError(`The connection to memory:${this.name} was lost: ${reason}`));
    }
  }

  /** Deletes a queue with its messages; its consumers are told in `onend`. Returns whether there was one. */
  deleteQueue(name: string): boolean {
    const queue = this.#queues.get(name);
    if (queue !== undefined) this.#drop(queue);
    return queue !== undefined;
  }

  /** Takes a connection in, and returns its direct reply-to address. */
  attach(link: MemoryLink): string {
    const replyTo = `${DIRECT_REPLY_TO}.${this.#ids.next()}`;
    this.#links.set(replyTo, link);
    // Without a connection no timer ran: what expired meanwhile goes now.
    if (this.#links.size === 1) {
      for (const queue of this.#queues.values()) queue.wake();
    }
    return replyTo;
  }

  /** Lets a connection go, with the queues that are its own. */
  detach(replyTo: string): void {
    const link = this.#links.get(replyTo);
    if (link === undefined) return;
    this.#links.delete(replyTo);
    for (const queue of this.#queues.values()) if (queue.owner === link) this.#drop(queue);
    if (this.#links.size > 0) return;
    for (const queue of this.#queues.values()) queue.sleep();
    if (this.#nextTurn !== undefined) clearTimeout(this.#nextTurn.timer);
    this.#turn();
  }

  /** Declares one thing after the other, up to the first refusal. */
  declare(declarations: readonly Declaration[], link: MemoryLink): void {
    for (const declaration of declarations) {
      if (declaration.kind === "exchange") this.#declareExchange(declaration);
      else if (declaration.kind === "queue") this.#declareQueue(declaration, link);
      else this.#bind(declaration, link);
    }
  }

  /** A queue that a connection may use. */
  queue(name: string, link: MemoryLink): MemoryQueue {
    const queue = this.#queues.get(name);
    if (queue === undefined) throw this.#refusal("NOT_FOUND", `no queue '${name}'`);
    if (queue.owner !== undefined && queue.owner !== link) throw this.#locked(name);
    return queue;
  }

  /** Takes a copy of a message to every queue that it is for, and returns whether there is one. */
  publish(message: Message): boolean {
    const { exchange, routingKey } = message;
    const { expiration } = message.properties;
    if (expiration !== undefined && !/^\d{1,15}$/.test(expiration)) {
      throw this.#refusal("PRECONDITION_FAILED", `invalid expiration '${expiration}'`);
    }
    if (exchange === "" && routingKey.startsWith(DIRECT_REPLY_TO)) {
      this.#links.get(routingKey)?.reply(copyMessage(message));
      // Whoever asked may be gone: its answer is dropped, and was not undeliverable.
      return true;
    }
    const queues = this.#route(exchange, routingKey);
    if (queues === undefined) throw this.#refusal("NOT_FOUND", `no exchange '${exchange}'`);
    if (queues.size === 0) return false;
    for (const queue of queues) queue.push(message);
    return true;
  }

  /**
   * Runs a task after the current call stack: in a microtask, and now and then after a turn of the event loop, so
   * that messages which beget messages cannot keep timers and sockets waiting for ever.
   */
  defer(task: () => void): void {
    if (this.#nextTurn !== undefined) {
      this.#nextTurn.tasks.push(task);
    } else if (++this.#tasks < TASKS_PER_TURN || this.#links.size === 0) {
      queueMicrotask(task);
    } else {
      this.#nextTurn = { timer: setTimeout(() => this.#turn()), tasks: [task] };
    }
  }

  #turn(): void {
    const tasks = this.#nextTurn?.tasks ?? [];
    this.#nextTurn = undefined;
    this.#tasks = 0;
    for (const task of tasks) queueMicrotask(task);
  }

  #declareExchange({ name, type }: ExchangeDeclaration): void {
    const existing = this.#exchanges.get(name);
    if (existing === undefined) this.#exchanges.set(name, new Exchange(type));
    else this.#compare(`exchange '${name}'`, { type }, { type: existing.type });
  }

  #declareQueue(declaration: QueueDeclaration, link: MemoryLink): void {
    const { name, exclusive } = declaration;
    const owner = exclusive ? link : undefined;
    const existing = this.#queues.get(name);
    if (existing === undefined) {
      this.#queues.set(name, new MemoryQueue(declaration, owner, this.#host));
    } else {
      if (existing.owner !== owner) throw this.#locked(name);
      this.#compare(`queue '${name}'`, settings(declaration), settings(existing.declaration));
    }
  }

  #bind({ queue, exchange, routingKey }: BindingDeclaration, link: MemoryLink): void {
    const target = this.queue(queue, link);
    const source = this.#exchanges.get(exchange);
    if (source === undefined) throw this.#refusal("NOT_FOUND", `no exchange '${exchange}'`);
    source.bind(routingKey, target);
  }

  #route(exchange: string, routingKey: string): ReadonlySet<MemoryQueue> | undefined {
    return exchange === ""
      ? this.#queues.get(routingKey)?.itself ?? noQueues
      : this.#exchanges.get(exchange)?.route(routingKey);
  }

  /** Moves a message to the dead letters of its queue; without any it is dropped. */
  #bury(message: Message, queue: MemoryQueue, reason: DeathReason): void {
    const { name, arguments: { "x-dead-letter-exchange": exchange, "x-dead-letter-routing-key": key } } =
      queue.declaration;
    if (exchange === undefined) return;
    const address = { exchange: String(exchange), routingKey: String(key ?? message.routingKey) };
    const targets = this.#route(address.exchange, address.routingKey) ?? noQueues;
    if (targets.size === 0) return;
    const letter = deadLetter(message, name, reason, address);
    for (const target of targets) target.push(letter);
  }

  #drop(queue: MemoryQueue): void {
    const { name } = queue.declaration;
    this.#queues.delete(name);
    for (const exchange of this.#exchanges.values()) exchange.unbind(queue);
    queue.close(
      new NuropbTransportError(`The broker cancelled the consumer of ${name}: the queue was deleted`, {
        code: "NOT_FOUND",
      }),
    );
  }

  #compare(what: string, received: Settings, current: Settings): void {
    for (const setting of new Set([...Object.keys(received), ...Object.keys(current)])) {
      if (received[setting] === current[setting]) continue;
      throw this.#refusal(
        "PRECONDITION_FAILED",
        `inequivalent arg '${setting}' for ${what}`,
        `: received ${quote(received[setting])} but current is ${quote(current[setting])}`,
      );
    }
  }

  #locked(queue: string): NuropbTransportError {
    return this.#refusal(
      "PRECONDITION_FAILED",
      `cannot obtain exclusive access to locked queue '${queue}'`,
      ": it belongs to another connection, or was declared with another value of exclusive",
      "RESOURCE_LOCKED",
    );
  }

  #refusal(code: NuropbErrorCode, what: string, why = "", reply: string = code): NuropbTransportError {
    return new NuropbTransportError(`The broker refused: ${reply} - ${what} in vhost '${this.name}'${why}`, {
      code,
    });
  }
}

/** An exchange with its bindings. */
class Exchange {
  readonly type: ExchangeDeclaration["type"];
  readonly #bindings = new Map<string, Binding>();

  constructor(type: ExchangeDeclaration["type"]) {
    this.type = type;
  }

  bind(routingKey: string, queue: MemoryQueue): void {
    const existing = this.#bindings.get(routingKey);
    if (existing !== undefined) existing.queues.add(queue);
    else this.#bindings.set(routingKey, { words: topicWords(routingKey), queues: new Set([queue]) });
  }

  unbind(queue: MemoryQueue): void {
    for (const [routingKey, { queues }] of this.#bindings) {
      if (queues.delete(queue) && queues.size === 0) this.#bindings.delete(routingKey);
    }
  }

  /** Each queue once, however many of its bindings take the message. */
  route(routingKey: string): ReadonlySet<MemoryQueue> {
    if (this.type === "direct") return this.#bindings.get(routingKey)?.queues ?? noQueues;
    const topic = topicWords(routingKey);
    const targets = new Set<MemoryQueue>();
    for (const { words, queues } of this.#bindings.values()) {
      if (this.type === "topic" && !matchesTopic(words, topic)) continue;
      for (const queue of queues) targets.add(queue);
    }
    return targets;
  }
}

type Settings = Readonly<Record<string, string | number | boolean>>;

function settings({ durable, autoDelete, arguments: given }: QueueDeclaration): Settings {
  return { durable, auto_delete: autoDelete, ...given };
}

function quote(value: Settings[string] | undefined): string {
  return value === undefined ? "none" : `'${value}'`;
}
