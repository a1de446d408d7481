/**
 * A TCP connection by what is fastest on each runtime, with nothing around it.
 *
 * @module
 */
import { connect } from "node:net";

/** Sends bytes, which belong to the socket from then on. */
export type Write = (bytes: Uint8Array) => void;

/** Told what comes in; the bytes are the callee's only until it returns. */
export type Receive = (bytes: Uint8Array) => void;

interface BunSocket {
  setNoDelay(on: boolean): void;
  /** Gives how many bytes the kernel took. */
  write(bytes: Uint8Array): number;
}

interface BunHandlers {
  data(socket: BunSocket, bytes: Uint8Array): void;
  drain(): void;
}

interface BunSockets {
  connect(options: { hostname: string; port: number; socket: BunHandlers }): Promise<BunSocket>;
}

const READ_SIZE = 65_536;

/** Connects with TCP_NODELAY. */
export function openSocket(host: string, port: number, receive: Receive): Promise<Write> {
  if ("Deno" in globalThis) return openOnDeno(host, port, receive);
  const scope: object = globalThis;
  if (hasBun(scope)) return openOnBun(scope.Bun, host, port, receive);
  return openOnNode(host, port, receive);
}

function hasBun(scope: object): scope is { Bun: BunSockets } {
  return "Bun" in scope;
}

function openOnNode(host: string, port: number, receive: Receive): Promise<Write> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, noDelay: true });
    socket.on("data", receive);
    socket.once("error", reject);
    socket.once("connect", () => resolve((bytes) => socket.write(bytes)));
  });
}

async function openOnDeno(hostname: string, port: number, receive: Receive): Promise<Write> {
  const socket = await Deno.connect({ hostname, port });
  socket.setNoDelay(true);
  const read = async () => {
    const buffer = new Uint8Array(READ_SIZE);
    for (let count = await socket.read(buffer); count !== null; count = await socket.read(buffer)) {
      receive(buffer.subarray(0, count));
    }
  };
  const waiting: Uint8Array[] = [];
  let writing = false;
  const drain = async () => {
    writing = true;
    for (let bytes = waiting.shift(); bytes !== undefined; bytes = waiting.shift()) {
      for (let sent = 0; sent < bytes.byteLength;) sent += await socket.write(bytes.subarray(sent));
    }
    writing = false;
  };
  void read();
  return (bytes) => {
    waiting.push(bytes);
    if (!writing) void drain();
  };
}

async function openOnBun(bun: BunSockets, hostname: string, port: number, receive: Receive): Promise<Write> {
  let waiting: Uint8Array[] = [];
  const write: Write = (bytes) => {
    if (waiting.length > 0) {
      waiting.push(bytes);
      return;
    }
    const taken = Math.max(0, socket.write(bytes));
    if (taken < bytes.byteLength) waiting.push(bytes.subarray(taken));
  };
  const drain = () => {
    const left = waiting;
    waiting = [];
    left.forEach(write);
  };
  const socket = await bun.connect({
    hostname,
    port,
    socket: { data: (_socket, bytes) => receive(bytes), drain },
  });
  socket.setNoDelay(true);
  return write;
}
