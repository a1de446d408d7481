/**
 * Cuts a stream of bytes into whole AMQP frames, and refuses what is none before anything is allocated for it.
 *
 * @module
 */

const HEADER_SIZE = 7;
const FRAME_END = 0xce;
const METHOD = 1;
const CONTENT_HEADER = 2;
const CONTENT_BODY = 3;
const NOTHING = new Uint8Array(0);
/** Where in a content header frame the body's size stands: after the frame's header, class and weight. */
const BODY_SIZE_OFFSET = HEADER_SIZE + 4;

/** What a {@linkcode FrameReader} tells its owner. */
export interface FrameHandlers {
  /** One or more whole frames; the bytes are the callee's only until it returns. */
  onframes(bytes: Uint8Array): void;
  /** The next content header on this channel announced a larger body than is allowed, and comes as an empty one. */
  onoversize(channel: number, bodySize: number): void;
}

/** Reads frames. Throws an Error when the bytes are no frames; it is of no more use then. */
export class FrameReader {
  readonly #handlers: FrameHandlers;
  readonly #maxFrameSize: number;
  readonly #maxBodySize: number;
  /** The start of a frame whose rest has not come yet. */
  #partial: Uint8Array = NOTHING;
  /** Bytes of bodies still to come that are dropped, by channel. */
  readonly #dropping = new Map<number, number>();

  /**
   * @param maxFrameSize In bytes, with the 8 that frame it.
   * @param maxBodySize In bytes.
   * @param handlers Told of frames.
   */
  constructor(maxFrameSize: number, maxBodySize: number, handlers: FrameHandlers) {
    this.#maxFrameSize = maxFrameSize;
    this.#maxBodySize = maxBodySize;
    this.#handlers = handlers;
  }

  /** Takes the next bytes of the stream. */
  push(bytes: Uint8Array): void {
    const input = this.#partial.byteLength === 0 ? bytes : concat(this.#partial, bytes);
    const view = new DataView(input.buffer, input.byteOffset, input.byteLength);
    let start = 0;
    let position = 0;
    while (input.byteLength - position >= HEADER_SIZE) {
      const size = HEADER_SIZE + view.getUint32(position + 3) + 1;
      if (size > this.#maxFrameSize) throw new Error(`a frame of ${size} bytes, over ${this.#maxFrameSize}`);
      if (input.byteLength - position < size) break;
      if (input[position + size - 1] !== FRAME_END) throw new Error("a frame without its end mark");
      if (this.#isSpecial(view, position, size)) {
        if (position > start) this.#handlers.onframes(input.subarray(start, position));
        this.#handle(view.getUint16(position + 1), copy(input.subarray(position, position + size)));
        start = position + size;
      }
      position += size;
    }
    if (position > start) this.#handlers.onframes(input.subarray(start, position));
    // Copied, because the bytes go back to the socket.
    this.#partial = position === input.byteLength ? NOTHING : copy(input.subarray(position));
  }

  /** Whether a frame cannot just be handed on with the others. */
  #isSpecial(view: DataView, position: number, size: number): boolean {
    const type = view.getUint8(position);
    if (type === CONTENT_HEADER) {
      return size > BODY_SIZE_OFFSET + 8 && bodySize(view, position) > this.#maxBodySize;
    }
    if (this.#dropping.size === 0) return false;
    const channel = view.getUint16(position + 1);
    // A method says that no more of the body comes, whatever was announced.
    if (type === METHOD) this.#dropping.delete(channel);
    return type === CONTENT_BODY && this.#dropping.has(channel);
  }

  #handle(channel: number, frame: Uint8Array): void {
    if (frame[0] === CONTENT_BODY) {
      const left = this.#dropping.get(channel)! - (frame.byteLength - HEADER_SIZE - 1);
      if (left > 0) this.#dropping.set(channel, left);
      else this.#dropping.delete(channel);
      return;
    }
    const announced = bodySize(new DataView(frame.buffer), 0);
    this.#dropping.set(channel, announced);
    this.#handlers.onoversize(channel, announced);
    // The message goes on without a body, so that whoever waits for it is told.
    frame.fill(0, BODY_SIZE_OFFSET, BODY_SIZE_OFFSET + 8);
    this.#handlers.onframes(frame);
  }
}

function bodySize(view: DataView, position: number): number {
  const at = position + BODY_SIZE_OFFSET;
  return view.getUint32(at) * 2 ** 32 + view.getUint32(at + 4);
}

/** A copy also of Node's buffers, whose `slice` gives none. */
function copy(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes);
}

function concat(first: Uint8Array, second: Uint8Array): Uint8Array {
  const joined = new Uint8Array(first.byteLength + second.byteLength);
  joined.set(first);
  joined.set(second, first.byteLength);
  return joined;
}
