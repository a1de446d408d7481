/**
 * One connection through the fault proxy.
 *
 * @module
 */
import type { Socket } from "node:net";
import type { Direction, FaultCounts, FaultSettings } from "./fault_proxy.ts";

/** How many bytes wait in a throttled link before their sender has to. */
const LARGEST_QUEUE = 65_536;

/** A throttled link lets go of what it may carry in so many ms at once. */
const STEP_MS = 20;

/** A client's socket and the one to the broker, and what goes between them. */
export class FaultLink {
  readonly #client: Socket;
  readonly #server: Socket;
  readonly #onclose: () => void;
  /** How many of the two will send nothing more. */
  #ended = 0;

  constructor(
    client: Socket,
    server: Socket,
    settings: FaultSettings,
    counts: FaultCounts,
    onclose: () => void,
  ) {
    this.#client = client;
    this.#server = server;
    this.#onclose = onclose;
    let answered = true;
    this.#connect(client, server, "toServer", settings, (size) => {
      if (answered) counts.flights++;
      answered = false;
      counts.bytes.toServer += size;
    });
    this.#connect(server, client, "toClient", settings, (size) => {
      answered = true;
      counts.bytes.toClient += size;
    });
  }

  /** Ends both sides; what they still send is thrown away. */
  drop(): void {
    for (const socket of [this.#client, this.#server]) {
      socket.removeAllListeners("data");
      socket.resume();
      socket.end();
    }
  }

  /** Breaks both sides. */
  reset(): void {
    for (const socket of [this.#client, this.#server]) {
      if (!socket.destroyed) reset(socket);
    }
    this.#onclose();
  }

  #connect(
    from: Socket,
    to: Socket,
    direction: Direction,
    settings: FaultSettings,
    ondata: (size: number) => void,
  ): void {
    const flow = new Flow(from, to, direction, settings, () => this.reset());
    from.on("data", (bytes: Uint8Array) => {
      ondata(bytes.byteLength);
      flow.take(bytes);
    });
    from.on("end", () => {
      flow.take(undefined);
      this.#sourceEnded(flow);
    });
    // What follows an error is a "close".
    from.on("error", () => {});
    from.on("close", () => {
      if (to.destroyed) this.#onclose();
      else if (!from.readableEnded) this.#sourceEnded(flow, true);
    });
  }

  /** A side that broke takes the other one with it, unless nobody hears of it. */
  #sourceEnded(flow: Flow, broken = false): void {
    this.#ended++;
    if (flow.deaf ? this.#ended === 2 : broken) this.reset();
  }
}

/** One way of a link, in which bytes keep their order. */
class Flow {
  /** Whether bytes were swallowed, so that nothing may follow. */
  deaf = false;
  readonly #from: Socket;
  readonly #to: Socket;
  readonly #direction: Direction;
  readonly #settings: FaultSettings;
  readonly #reset: () => void;
  /** What waits, and until when. Nothing but its end comes after `undefined`. */
  readonly #queue: { readonly bytes: Uint8Array | undefined; readonly due: number }[] = [];
  #queued = 0;
  #running = false;

  constructor(from: Socket, to: Socket, direction: Direction, settings: FaultSettings, reset: () => void) {
    this.#from = from;
    this.#to = to;
    this.#direction = direction;
    this.#settings = settings;
    this.#reset = reset;
  }

  /** Forwards bytes, or the end of them, now or later. */
  take(bytes: Uint8Array | undefined): void {
    const { delay, bytesPerSecond } = this.#settings;
    if (!this.#running && delay === 0 && bytesPerSecond === undefined) return this.#forward(bytes);
    this.#queue.push({ bytes, due: performance.now() + delay });
    this.#queued += bytes?.byteLength ?? 0;
    if (bytesPerSecond !== undefined && this.#queued > LARGEST_QUEUE) this.#from.pause();
    if (!this.#running) void this.#run();
  }

  async #run(): Promise<void> {
    this.#running = true;
    /** When the link has carried what it was given. */
    let carried = 0;
    for (let next = this.#queue[0]; next !== undefined; next = this.#queue[0]) {
      await until(next.due);
      for (const part of this.#parts(next.bytes)) {
        const { bytesPerSecond } = this.#settings;
        if (bytesPerSecond !== undefined) {
          carried = Math.max(carried, performance.now()) + (part?.byteLength ?? 0) / bytesPerSecond * 1000;
          await until(carried);
        }
        this.#forward(part);
      }
      this.#queue.shift();
      this.#queued -= next.bytes?.byteLength ?? 0;
      if (this.#queued <= LARGEST_QUEUE && !this.#to.writableNeedDrain) this.#from.resume();
    }
    this.#running = false;
  }

  *#parts(bytes: Uint8Array | undefined): Generator<Uint8Array | undefined> {
    if (bytes === undefined) return yield undefined;
    for (let start = 0; start < bytes.byteLength;) {
      const { bytesPerSecond } = this.#settings;
      const size = bytesPerSecond === undefined
        ? bytes.byteLength
        : Math.ceil(bytesPerSecond * STEP_MS / 1000);
      yield bytes.subarray(start, start += size);
    }
  }

  #forward(bytes: Uint8Array | undefined): void {
    this.deaf ||= this.#settings.swallow[this.#direction];
    if (this.deaf || !this.#to.writable) return;
    if (bytes === undefined) {
      this.#to.end();
      return;
    }
    const cut = this.#settings.cut[this.#direction];
    if (cut !== undefined && cut.remaining <= bytes.byteLength) {
      return this.#cut(bytes.subarray(0, cut.remaining), cut.done);
    }
    if (cut !== undefined) cut.remaining -= bytes.byteLength;
    if (this.#to.write(bytes)) return;
    this.#from.pause();
    this.#to.once("drain", () => this.#queued <= LARGEST_QUEUE && this.#from.resume());
  }

  #cut(bytes: Uint8Array, done: () => void): void {
    this.deaf = true;
    delete this.#settings.cut[this.#direction];
    const finish = () => {
      this.#reset();
      done();
    };
    // The last bytes are to arrive.
    if (bytes.byteLength > 0) this.#to.write(bytes, finish);
    else finish();
  }
}

/**
 * Node's `resetAndDestroy` ends the socket in good order first; if the peer breaks it meanwhile, the handle is never
 * closed, and Node 20 spins at its exit. Setting what that function sets leaves the good order out.
 */
function reset(socket: Socket): void {
  if (socket.connecting || socket.writableEnded) socket.destroy();
  else if ("Deno" in globalThis) socket.resetAndDestroy();
  else Object.assign(socket, { resetAndClosing: true }).destroy();
}

async function until(time: number): Promise<void> {
  const wait = time - performance.now();
  if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
}
