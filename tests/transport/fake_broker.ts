/**
 * A scripted AMQP 0-9-1 broker, for what a real one cannot be made to do. By itself it plays along: it accepts
 * everyone and everything, confirms what is published, and answers each request with `"pong"`. A test takes over
 * single steps with `on` and `once`. What comes in is recorded; what is no AMQP fails the test that it came in.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { type AddressInfo, createServer, type Socket } from "node:net";
import process from "node:process";
import { inspect } from "node:util";
import { afterEach, beforeAll, beforeEach, it } from "@std/testing/bdd";
import type { NuropbException } from "../../src/errors.ts";
import type { Message } from "../../src/message.ts";
import type { ByteSocket } from "../../src/runtime/byte_socket.ts";
import { openAmqp } from "../../src/transport/amqp.ts";
import type { AmqpSettings } from "../../src/transport/amqp_socket.ts";
import type { Connection, ConnectionHandlers } from "../../src/transport/transport.ts";

/** The methods that are spoken here: class, method, fields. */
const METHODS = {
  "connection.start": [10, 10, "major:octet minor:octet properties:table mechanisms:long locales:long"],
  "connection.start-ok": [10, 11, "properties:table mechanism:short response:long locale:short"],
  "connection.tune": [10, 30, "channelMax:u16 frameMax:u32 heartbeat:u16"],
  "connection.tune-ok": [10, 31, "channelMax:u16 frameMax:u32 heartbeat:u16"],
  "connection.open": [10, 40, "vhost:short capabilities:short insist:octet"],
  "connection.open-ok": [10, 41, "knownHosts:short"],
  "connection.close": [10, 50, "code:u16 text:short class:u16 method:u16"],
  "connection.close-ok": [10, 51, ""],
  "connection.blocked": [10, 60, "reason:short"],
  "connection.unblocked": [10, 61, ""],
  "channel.open": [20, 10, "outOfBand:short"],
  "channel.open-ok": [20, 11, "id:long"],
  "channel.close": [20, 40, "code:u16 text:short class:u16 method:u16"],
  "channel.close-ok": [20, 41, ""],
  "exchange.declare": [40, 10, "ticket:u16 exchange:short type:short flags:octet arguments:table"],
  "exchange.declare-ok": [40, 11, ""],
  "queue.declare": [50, 10, "ticket:u16 queue:short flags:octet arguments:table"],
  "queue.declare-ok": [50, 11, "queue:short messages:u32 consumers:u32"],
  "queue.bind": [
    50,
    20,
    "ticket:u16 queue:short exchange:short routingKey:short flags:octet arguments:table",
  ],
  "queue.bind-ok": [50, 21, ""],
  "basic.qos": [60, 10, "size:u32 count:u16 global:octet"],
  "basic.qos-ok": [60, 11, ""],
  "basic.consume": [60, 20, "ticket:u16 queue:short tag:short flags:octet arguments:table"],
  "basic.consume-ok": [60, 21, "tag:short"],
  "basic.cancel": [60, 30, "tag:short flags:octet"],
  "basic.cancel-ok": [60, 31, "tag:short"],
  "basic.publish": [60, 40, "ticket:u16 exchange:short routingKey:short flags:octet"],
  "basic.return": [60, 50, "code:u16 text:short exchange:short routingKey:short"],
  "basic.deliver": [60, 60, "tag:short deliveryTag:u64 redelivered:octet exchange:short routingKey:short"],
  "basic.ack": [60, 80, "deliveryTag:u64 multiple:octet"],
  "basic.reject": [60, 90, "deliveryTag:u64 requeue:octet"],
  "basic.nack": [60, 120, "deliveryTag:u64 flags:octet"],
  "confirm.select": [85, 10, "nowait:octet"],
  "confirm.select-ok": [85, 11, ""],
} as const satisfies Record<string, readonly [number, number, string]>;

/** The properties of a message, in the order of their flags, the highest first. */
const PROPERTIES =
  "contentType:short contentEncoding:short headers:table deliveryMode:octet priority:octet correlationId:short " +
  "replyTo:short expiration:short messageId:short timestamp:u64 type:short userId:short appId:short";

export type MethodName = keyof typeof METHODS;
/** What a hook can take over. `basic.publish` is a whole message; the others besides methods have no channel. */
export type StepName = MethodName | "header" | "heartbeat";
/** Fields by name. A table is its bytes, without the size before them: see {@linkcode table}. */
export type Fields = Readonly<Record<string, string | number | Uint8Array>>;

const kinds: Record<
  string,
  { read(from: Buffer, at: number): [Fields[string], number]; write(value: never): Buffer }
> = {
  octet: { read: (from, at) => [from.readUInt8(at), 1], write: (value: number) => number(value, 1) },
  u16: { read: (from, at) => [from.readUInt16BE(at), 2], write: (value: number) => number(value, 2) },
  u32: { read: (from, at) => [from.readUInt32BE(at), 4], write: (value: number) => number(value, 4) },
  u64: {
    read: (from, at) => [Number(from.readBigUInt64BE(at)), 8],
    write: (value: number) => number(value, 8),
  },
  short: {
    read: (from, at) => [from.toString("utf8", at + 1, at + 1 + from.readUInt8(at)), 1 + from.readUInt8(at)],
    write: (value: string) => Buffer.concat([number(Buffer.byteLength(value), 1), Buffer.from(value)]),
  },
  long: {
    read: (
      from,
      at,
    ) => [from.toString("utf8", at + 4, at + 4 + from.readUInt32BE(at)), 4 + from.readUInt32BE(at)],
    write: (value: string) => Buffer.concat([number(Buffer.byteLength(value), 4), Buffer.from(value)]),
  },
  table: {
    read: (from, at) => [from.subarray(at + 4, at + 4 + from.readUInt32BE(at)), 4 + from.readUInt32BE(at)],
    write: (value: Uint8Array) => Buffer.concat([number(value.byteLength, 4), value]),
  },
};
const defaults: Fields = { octet: 0, u16: 0, u32: 0, u64: 0, short: "", long: "", table: new Uint8Array(0) };

function number(value: number, size: 1 | 2 | 4 | 8): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt.asUintN(64, BigInt(value)));
  return bytes.subarray(8 - size);
}

const HANDSHAKE: ReadonlySet<StepName> = new Set([
  "header",
  "connection.start-ok",
  "connection.tune-ok",
  "connection.open",
]);

function layoutOf(fields: string): [name: string, kind: string][] {
  return fields === "" ? [] : fields.split(" ").map((field) => field.split(":") as [string, string]);
}

/** One frame. */
export function frame(type: number, channel: number, payload: Uint8Array): Buffer {
  return Buffer.concat([
    number(type, 1),
    number(channel, 2),
    number(payload.byteLength, 4),
    payload,
    Buffer.of(0xce),
  ]);
}

/** A method's frame. Fields that are not given are zero or empty. */
export function method(channel: number, name: MethodName, fields: Fields = {}): Buffer {
  const [classId, methodId, layout] = METHODS[name];
  const values = layoutOf(layout).map(([field, kind]) =>
    kinds[kind]!.write((fields[field] ?? defaults[kind]) as never)
  );
  return frame(1, channel, Buffer.concat([number(classId, 2), number(methodId, 2), ...values]));
}

/** A header table. Texts become long strings; bytes are a field's type and value as they stand. */
export function table(entries: Readonly<Record<string, string | Uint8Array>>): Buffer {
  return Buffer.concat(
    Object.entries(entries).flatMap(([key, value]) => [
      kinds.short!.write(key as never),
      typeof value === "string"
        ? Buffer.concat([Buffer.from("S"), kinds.long!.write(value as never)])
        : value,
    ]),
  );
}

/** A message as it goes over the wire. */
export interface Content {
  readonly properties?: Fields;
  readonly body?: string | Uint8Array;
  /** Announced in place of the body's true size. */
  readonly announced?: number;
}

/** The frames of a message after its method: header and body, in parts of at most so many bytes. */
export function content(
  channel: number,
  { properties = {}, body = "", announced }: Content,
  part = 131_064,
): Buffer {
  const bytes = Buffer.from(body as Uint8Array);
  let flags = 0;
  const values = layoutOf(PROPERTIES).flatMap(([name, kind], index) => {
    const value = properties[name];
    if (value === undefined) return [];
    flags |= 0x8000 >> index;
    return [kinds[kind]!.write(value as never)];
  });
  const size = number(announced ?? bytes.byteLength, 8);
  const frames = [
    frame(2, channel, Buffer.concat([number(60, 2), number(0, 2), size, number(flags, 2), ...values])),
  ];
  for (let at = 0; at < bytes.byteLength; at += part) {
    frames.push(frame(3, channel, bytes.subarray(at, at + part)));
  }
  return Buffer.concat(frames);
}

/** A NuroPb message. A response, request or command has a `correlation_id` in its body. */
export function nuropb(
  type: "request" | "command" | "event" | "response",
  body: Record<string, unknown>,
): Content {
  const headers = table({
    nuropb_protocol: "0.1.1",
    nuropb_version: "0.1.0",
    nuropb_type: type,
    trace_id: "t",
  });
  const correlationId = String(body.correlation_id ?? "c");
  return {
    properties: {
      headers,
      correlationId,
      contentType: "application/json",
      ...(type === "request" ? { replyTo: "amq.rabbitmq.reply-to.x" } : {}),
    },
    body: JSON.stringify({ tag: type, context: {}, correlation_id: correlationId, ...body }),
  };
}

/** What came in. `chunk` counts the chunks of TCP: equal numbers came in together. */
export interface Received {
  readonly name: StepName | "content";
  readonly channel: number;
  readonly fields: Fields;
  readonly chunk: number;
}

/** A message that the client published. */
export interface Published {
  readonly channel: number;
  readonly exchange: string;
  readonly routingKey: string;
  readonly mandatory: boolean;
  readonly properties: Fields;
  readonly body: Buffer;
  /** What its confirm names; 0 on a channel without confirms. */
  readonly deliveryTag: number;
}

/** One step of a session, as a hook sees it. */
export interface Step {
  readonly session: Session;
  readonly channel: number;
  readonly fields: Fields;
  /** Of `basic.publish`. */
  readonly message: Published;
}

/** Does what a test wants, in place of playing along; `next` plays along. */
export type Hook = (step: Step, next: () => void) => void;

/** The bytes' way to the client. */
export interface Wire {
  write(bytes: Uint8Array): void;
  destroy(): void;
}

type Incoming = Omit<Published, "properties" | "body"> & {
  fields: Fields;
  properties?: Fields;
  size: number;
  parts: Buffer[];
};

/** One connection, seen from the broker. */
export class Session {
  readonly received: Received[] = [];
  readonly chunks: Uint8Array[] = [];
  readonly published: Published[] = [];
  /** Consumers by queue. */
  readonly consumers = new Map<string, { channel: number; tag: string }>();
  /** Whether either side has closed the connection. */
  closed = false;
  readonly #broker: FakeBroker;
  readonly #wire: Wire;
  readonly #channels = new Set([0]);
  readonly #confirms = new Map<number, number>();
  readonly #partial = new Map<number, Incoming>();
  #input = Buffer.alloc(0);
  #greeted = false;
  /** A step of the handshake that is not done yet: a broker takes them one after the other. */
  #held = false;
  /** It has closed the connection, and passes over everything but the answer. */
  #closing = false;
  #deliveries = 0;
  readonly #delivered: { readonly channel: number; readonly tag: number }[] = [];

  constructor(broker: FakeBroker, wire: Wire) {
    this.#broker = broker;
    this.#wire = wire;
  }

  /** Writes all of it at once. */
  send(...bytes: Uint8Array[]): void {
    this.#closing ||= bytes.some((part) => part[0] === 1 && part[8] === 10 && part[10] === 50);
    if (!this.closed) this.#wire.write(Buffer.concat(bytes));
  }

  /** Cuts the connection without a word. */
  drop(): void {
    this.closed = true;
    this.#wire.destroy();
  }

  /** Everything of this name that came in. */
  all(name: Received["name"]): Received[] {
    return this.received.filter((received) => received.name === name);
  }

  /** The tags of all deliveries that the client acknowledged, by themselves or with others. */
  get acked(): number[] {
    const open = [...this.#delivered];
    return this.received.flatMap(({ name, channel, fields: { deliveryTag, multiple } }) => {
      if (name !== "basic.ack" && name !== "basic.reject") return [];
      const settled = open.filter((delivery) =>
        delivery.channel === channel &&
        (multiple === 1 ? delivery.tag <= Number(deliveryTag) : delivery.tag === deliveryTag)
      );
      for (const delivery of settled) open.splice(open.indexOf(delivery), 1);
      return name === "basic.ack" ? settled.map(({ tag }) => tag) : [];
    });
  }

  /** The queue of the one subscription that there is. */
  get subscription(): string {
    const queues = [...this.consumers.keys()].filter((queue) => queue.startsWith("nuropb-subscriber-"));
    assert.equal(queues.length, 1);
    return queues[0]!;
  }

  /** Delivers to the consumer of a queue. Gives the delivery tag. */
  deliver(queue: string, message: Content, fields: Fields = {}, part?: number): number {
    this.send(this.delivery(queue, message, fields, part));
    return this.#deliveries;
  }

  /** The frames of a delivery to the consumer of a queue. */
  delivery(queue: string, message: Content, fields: Fields = {}, part?: number): Buffer {
    const { channel, tag } = this.consumers.get(queue) ?? assert.fail(`Nobody consumes ${queue}`);
    this.#delivered.push({ channel, tag: ++this.#deliveries });
    const deliver = method(channel, "basic.deliver", { tag, deliveryTag: this.#deliveries, ...fields });
    return Buffer.concat([deliver, content(channel, message, part)]);
  }

  /** Answers a request that the client published. */
  answer(request: Published, result: unknown): void {
    this.deliver(
      String(request.properties.replyTo),
      nuropb("response", { correlation_id: request.properties.correlationId, result, error: null }),
    );
  }

  /** Takes bytes from the client. */
  receive(bytes: Uint8Array): void {
    // A closed session reads no more, and in Bun the bytes are the socket's again afterwards.
    if (this.closed) return;
    this.chunks.push(Buffer.from(bytes));
    this.#input = Buffer.concat([this.#input, bytes]);
    this.#readOn();
  }

  #readOn(): void {
    try {
      while ((!this.#held || this.#closing) && this.#readOne());
    } catch (error) {
      this.#broker.faults.push(error);
      this.drop();
    }
  }

  #readOne(): boolean {
    const input = this.#input;
    if (!this.#greeted) {
      if (input.byteLength < 8) return false;
      assert.equal(input.toString("latin1", 0, 8), "AMQP\0\0\x09\x01");
      this.#greeted = true;
      this.#input = input.subarray(8);
      this.#step("header", 0, {});
      return true;
    }
    if (input.byteLength < 7 || input.byteLength < input.readUInt32BE(3) + 8) return false;
    const [type, channel, size] = [input.readUInt8(0), input.readUInt16BE(1), input.readUInt32BE(3)];
    const { frameMax } = this.#broker.tune;
    // Below the least that AMQP allows, there is no limit to keep to.
    assert.ok(frameMax < 4_096 || size + 8 <= frameMax, `A frame of ${size + 8} bytes came in`);
    assert.equal(input[size + 7], 0xce, "A frame without its end came in");
    this.#input = input.subarray(size + 8);
    this.#readFrame(type, channel, Buffer.from(input.subarray(7, size + 7)));
    return true;
  }

  #readFrame(type: number, channel: number, payload: Buffer): void {
    if (type === 8) return this.#step("heartbeat", channel, {});
    if (type !== 1 && this.#closing) return;
    if (type !== 1) return this.#readContent(type, channel, payload);
    const [classId, methodId] = [payload.readUInt16BE(0), payload.readUInt16BE(2)];
    const known = Object.entries(METHODS).find(([, [a, b]]) => a === classId && b === methodId);
    assert.ok(known, `Method ${classId}.${methodId} came in, which nothing here speaks`);
    const name = known[0] as MethodName;
    const fields = readFields(layoutOf(known[1][2]), payload, 4);
    if (this.#closing && name !== "connection.close-ok") return;
    assert.ok(
      name === "channel.open" || this.#channels.has(channel),
      `${name} came in on closed channel ${channel}`,
    );
    if (name !== "basic.publish") return this.#step(name, channel, fields);
    this.#record(name, channel, fields);
    const deliveryTag = this.#confirms.has(channel) ? this.#confirms.get(channel)! + 1 : 0;
    if (deliveryTag > 0) this.#confirms.set(channel, deliveryTag);
    const [exchange, routingKey] = [String(fields.exchange), String(fields.routingKey)];
    const mandatory = fields.flags === 1;
    this.#partial.set(channel, {
      channel,
      exchange,
      routingKey,
      mandatory,
      deliveryTag,
      fields,
      size: 0,
      parts: [],
    });
  }

  #readContent(type: number, channel: number, payload: Buffer): void {
    const partial = this.#partial.get(channel) ??
      assert.fail(`Content without a method came in on ${channel}`);
    this.#record("content", channel, {});
    if (type === 2) {
      partial.size = Number(payload.readBigUInt64BE(4));
      const flags = payload.readUInt16BE(12);
      const present = layoutOf(PROPERTIES).filter((_, index) => flags & (0x8000 >> index));
      partial.properties = readFields(present, payload, 14);
    } else partial.parts.push(payload);
    const body = Buffer.concat(partial.parts);
    if (body.byteLength < partial.size) return;
    this.#partial.delete(channel);
    const { fields, size: _size, parts: _parts, properties = {}, ...rest } = partial;
    const message = { ...rest, properties, body };
    this.published.push(message);
    this.#broker.run(
      "basic.publish",
      { session: this, channel, fields, message },
      () => this.#confirm(message),
    );
  }

  #confirm(message: Published): void {
    const { channel, deliveryTag, properties: { replyTo } } = message;
    if (deliveryTag > 0) this.send(method(channel, "basic.ack", { deliveryTag }));
    if (typeof replyTo === "string" && this.consumers.has(replyTo)) this.answer(message, "pong");
  }

  #record(name: Received["name"], channel: number, fields: Fields): void {
    this.received.push({ name, channel, fields, chunk: this.chunks.length });
  }

  #step(name: Exclude<StepName, "basic.publish">, channel: number, fields: Fields): void {
    this.#record(name, channel, fields);
    if (name === "channel.open") this.#channels.add(channel);
    if (name === "channel.close" || name === "channel.close-ok") this.#forget(channel);
    const message = undefined as unknown as Published;
    this.#held = HANDSHAKE.has(name);
    const next = () => {
      const wasHeld = this.#held;
      this.#held = false;
      this.#playAlong(name, channel, fields);
      if (wasHeld) this.#readOn();
    };
    this.#broker.run(name, { session: this, channel, fields, message }, next);
  }

  #forget(channel: number): void {
    this.#channels.delete(channel);
    this.#confirms.delete(channel);
    this.#partial.delete(channel);
    for (const [queue, consumer] of this.consumers) {
      if (consumer.channel === channel) this.consumers.delete(queue);
    }
  }

  #playAlong(name: StepName, channel: number, fields: Fields): void {
    switch (name) {
      case "header":
        return this.send(method(0, "connection.start", { minor: 9, mechanisms: "PLAIN", locales: "en_US" }));
      case "connection.start-ok":
        return this.send(method(0, "connection.tune", { ...this.#broker.tune }));
      case "connection.tune-ok": {
        // RabbitMQ closes the connection for a limit above its own, of which zero is none.
        const above = (["channelMax", "frameMax"] as const).find((limit) =>
          this.#broker.tune[limit] > 0 && Number(fields[limit]) > this.#broker.tune[limit]
        );
        if (above === undefined) return;
        return this.send(
          method(0, "connection.close", { code: 530, text: `negotiated ${above} too large` }),
        );
      }
      case "connection.close":
        this.send(method(0, "connection.close-ok"));
        return this.drop();
      case "connection.close-ok":
        return this.drop();
      case "queue.declare":
        return this.send(method(channel, "queue.declare-ok", { queue: fields.queue! }));
      case "basic.consume": {
        const tag = String(fields.tag) || `tag-${channel}`;
        this.consumers.set(String(fields.queue), { channel, tag });
        return this.send(method(channel, "basic.consume-ok", { tag }));
      }
      case "basic.cancel":
        for (const [queue, { tag }] of this.consumers) if (tag === fields.tag) this.consumers.delete(queue);
        return this.send(method(channel, "basic.cancel-ok", { tag: fields.tag! }));
      case "confirm.select":
        this.#confirms.set(channel, 0);
        return this.send(method(channel, "confirm.select-ok"));
      default:
        // Most answers have no fields, and are named after what they answer.
        if (`${name}-ok` in METHODS) this.send(method(channel, `${name}-ok` as MethodName));
    }
  }
}

function readFields(layout: [string, string][], from: Buffer, at: number): Fields {
  const fields: Record<string, Fields[string]> = {};
  for (const [name, kind] of layout) {
    const [value, size] = kinds[kind]!.read(from, at);
    fields[name] = value;
    at += size;
  }
  assert.equal(at, from.byteLength, "The fields do not fill their frame");
  return fields;
}

/** What `connection.tune` proposes. */
export interface Tune {
  readonly channelMax: number;
  readonly frameMax: number;
  readonly heartbeat: number;
}

type SocketWrite = (socket: Socket, bytes: Uint8Array) => void;

/** The broker. */
export class FakeBroker {
  /** One for each connection, the oldest first. */
  readonly sessions: Session[] = [];
  /** What clients did that AMQP does not allow. */
  readonly faults: unknown[] = [];
  readonly tune: Tune;
  url = "";
  readonly #hooks = new Map<StepName, Hook>();
  readonly #server = createServer({ noDelay: true }, (socket) => this.#accept(socket));
  readonly #write: SocketWrite;

  /** A broker that does not listen: `accept` gives it its connections. */
  constructor(tune: Partial<Tune> = {}, write: SocketWrite = (socket, bytes) => socket.write(bytes)) {
    this.#write = write;
    this.tune = { channelMax: 2047, frameMax: 131_072, heartbeat: 60, ...tune };
  }

  /** A broker that listens. */
  static async start(tune?: Partial<Tune>, host = "127.0.0.1", write?: SocketWrite): Promise<FakeBroker> {
    const broker = new FakeBroker(tune, write);
    await new Promise<void>((resolve, reject) => {
      broker.#server.once("error", reject);
      broker.#server.listen(0, host, resolve);
    });
    const { port } = broker.#server.address() as AddressInfo;
    broker.url = `amqp://ann:${PASSWORD}@${host.includes(":") ? `[${host}]` : host}:${port}/mesh`;
    return broker;
  }

  /** The latest connection. */
  get session(): Session {
    return this.sessions.at(-1) ?? assert.fail("Nobody has connected");
  }

  /** Takes over a step, from now on. */
  on(name: StepName, hook: Hook): void {
    this.#hooks.set(name, hook);
  }

  /** Takes over a step the next time that it comes. */
  once(name: StepName, hook: Hook): void {
    this.on(name, (step, next) => {
      this.#hooks.delete(name);
      hook(step, next);
    });
  }

  /** Plays along again. */
  off(name: StepName): void {
    this.#hooks.delete(name);
  }

  /** Runs a step. */
  run(name: StepName, step: Step, next: () => void): void {
    const hook = this.#hooks.get(name);
    if (hook === undefined) next();
    else hook(step, next);
  }

  /** A new connection over any wire. */
  accept(wire: Wire): Session {
    const session = new Session(this, wire);
    this.sessions.push(session);
    return session;
  }

  #accept(socket: Socket): void {
    const session = this.accept({
      write: (bytes) => this.#write(socket, bytes),
      destroy: () => socket.destroySoon(),
    });
    socket.on("data", (bytes) => session.receive(bytes));
    socket.on("error", () => {});
    socket.on("close", () => session.closed = true);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const session of this.sessions) session.drop();
    await new Promise((resolve) => this.#server.close(resolve));
    assert.deepEqual(this.faults, []);
  }
}

const PASSWORD = "open-sesame";

/** Fails when what is logged of a value would show the password in a broker's url. */
export function showsNoPassword(value: unknown): void {
  const shown = inspect(value, { depth: 10, showHidden: true });
  const stack = value instanceof Error ? `${value.stack}` : "";
  assert.ok(!`${shown}${stack}`.includes("sesame"), shown);
}

/**
 * A connection without a network, for what must be exact: where chunks end, and how many writes there are.
 *
 * @param toClient Hands the broker's bytes on. By itself each write is one chunk.
 */
export function inMemory(
  broker: FakeBroker,
  toClient: (socket: ByteSocket, bytes: Uint8Array) => void = (socket, bytes) => socket.ondata(bytes),
): { socket: ByteSocket; session: Session; writes: Uint8Array[] } {
  const writes: Uint8Array[] = [];
  const socket: ByteSocket = {
    ondata: () => {},
    onclose: () => {},
    write(bytes) {
      writes.push(bytes);
      queueMicrotask(() => session.receive(bytes));
    },
    close: () => session.closed = true,
  };
  const session = broker.accept({
    write: (bytes) => queueMicrotask(() => toClient(socket, bytes)),
    destroy: () => queueMicrotask(() => socket.onclose()),
  });
  return { socket, session, writes };
}

/** Settings for those parts that are used without a mesh around them. */
export const settings: AmqpSettings = {
  vhost: "mesh",
  username: "ann",
  password: PASSWORD,
  mechanism: "PLAIN",
  name: "test",
  heartbeat: 60_000,
  methodTimeout: 1_000,
  maxMessageSize: 1_000_000,
};

/** A connection with all that it was told; the exchanges are not declared. */
export async function openConnection(broker: FakeBroker, handlers: Partial<ConnectionHandlers> = {}) {
  const { hostname, port } = new URL(broker.url);
  const told = {
    replies: [] as Message[],
    returns: [] as Message[],
    resets: [] as NuropbException[],
    closes: [] as unknown[],
  };
  const connection: Connection = await openAmqp(
    {
      ...settings,
      address: { host: hostname, port: Number(port) },
      declare: false,
      handshake: { pipelined: true },
      isCluster: false,
    },
    {
      onreply: (message) => told.replies.push(message),
      onreturn: (message) => told.returns.push(message),
      onreset: (error) => told.resets.push(error),
      onclose: (error) => told.closes.push(error),
      onrefused: () => {},
      onflow: () => {},
      onpipelined: () => {},
      ...handlers,
    },
    new AbortController().signal,
  );
  return { connection, ...told };
}

/** Options of a request or command that goes out at once, without a question about encryption before it. */
export const plain = { encrypted: false };

/** Waits until a condition holds. */
export async function until(
  condition: () => boolean,
  what = "",
  limit = 5_000,
): Promise<void> {
  const deadline = Date.now() + limit;
  while (!condition()) {
    if (Date.now() > deadline) assert.fail(`Not so within ${limit} ms: ${condition} ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

/** Waits for what must come soon, so that a test that fails does not hang. */
export async function soon<Value>(promise: Promise<Value>, limit = 5_000): Promise<Value> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`Nothing within ${limit} ms`)), limit);
  });
  return await Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Fails each test of the group that leaves an unhandled rejection behind, whatever the runtime makes of them. */
export function noticeRejections(): void {
  let rejections: unknown[] = [];
  const notice = (reason: unknown) => rejections.push(reason);
  beforeEach(() => {
    rejections = [];
    process.on("unhandledRejection", notice);
  });
  afterEach(async () => {
    // Runtimes look for unhandled ones when the event loop turns.
    for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setTimeout(resolve));
    process.off("unhandledRejection", notice);
    assert.deepEqual(rejections, []);
  });
}

/** Tests that mostly wait, and so run at once; each is reported by itself. To be called within a group. */
export function together(tests: Readonly<Record<string, () => Promise<void>>>): void {
  let outcomes: Promise<PromiseSettledResult<void>[]>;
  beforeAll(() => {
    outcomes = Promise.allSettled(Object.values(tests).map((test) => test()));
  });
  for (const [index, name] of Object.keys(tests).entries()) {
    it(name, async () => {
      const outcome = (await outcomes)[index]!;
      if (outcome.status === "rejected") throw outcome.reason;
    });
  }
}
