import { Socket } from "node:net";
import { type SpareBuffer, SpareBuffers } from "./spare-buffers.ts";

/**
 * Gets what was read. `release` says that nobody will look at the bytes any more, so that others may be written over them:
 * for the callback of the write that passes them on. Whoever keeps them, or is not sure, never calls it; that costs a
 * buffer and nothing else.
 */
export type OnBytes = (bytes: Buffer, release: () => void) => void;

/** What Node takes as `onread`; its own type makes a method of the callback, which could not be handed on. */
export interface OnRead {
  buffer: Buffer;
  callback: (count: number) => boolean;
}

/** Most bytes of a TLS record. */
const size = 16_384;

/**
 * Reading round Node's stream machinery, for sockets with one reader: no stream state per read, and no new buffer for each
 * piece of a long answer. New ones made V8 look through the whole heap 25 times a second, as it counts their bytes.
 * All sockets read into one buffer, so what came is copied before anybody sees it, or lent.
 */
export class ReadBuffers {
  readonly #into = Buffer.allocUnsafeSlow(size);
  readonly #spare = new SpareBuffers(size);

  /** What tls.connect takes as `onread`, in place of "data" events. */
  reader(onBytes: OnBytes): OnRead {
    return {
      buffer: this.#into,
      callback: (count) => {
        const { bytes, release } = this.#copy(this.#into, count);
        onBytes(bytes, release);
        return true;
      },
    };
  }

  /** The same for one who keeps nothing: the bytes are lent until the call returns, so that nothing is copied. */
  lender(onBytes: OnBytes): OnRead {
    return {
      buffer: this.#into,
      callback: (count) => {
        onBytes(this.#into.subarray(0, count), nothing);
        return true;
      },
    };
  }

  /** The same for a socket that has come in. */
  lendFrom(socket: Socket, onBytes: OnBytes): void {
    // What was read before this; and everything, where Node keeps `onread` elsewhere: that is only slower.
    socket.on("data", (bytes: Buffer) => onBytes(bytes, nothing));
    setOnread(socket, this.lender(onBytes));
  }

  /** For who was lent bytes and wants to keep them for a while. */
  copy(bytes: Buffer): SpareBuffer {
    return bytes.length > size ? { bytes: Buffer.from(bytes), release: nothing } : this.#copy(bytes, bytes.length);
  }

  #copy(from: Buffer, count: number): SpareBuffer {
    const { bytes, release } = this.#spare.take();
    from.copy(bytes, 0, 0, count);
    return { bytes: count === size ? bytes : bytes.subarray(0, count), release };
  }
}

/** For what clients say. */
export const clientReads = new ReadBuffers();

const nothing = () => undefined;

/**
 * Node takes `onread` for sockets that it connects itself, and not for those that come in. All sockets keep it in two fields of
 * their own, which are found by their names; a release of Node that has others leaves this socket as it is.
 */
function setOnread(socket: Socket, { buffer, callback }: OnRead): void {
  const handle = Reflect.get(socket, "_handle") as { useUserBuffer?(into: Buffer): void } | undefined;
  if (fields === undefined || handle?.useUserBuffer === undefined) return;
  Reflect.set(socket, fields.buffer, buffer);
  Reflect.set(socket, fields.callback, callback);
  handle.useUserBuffer(buffer);
}

const fields = findFields();

function findFields(): { buffer: symbol; callback: symbol } | undefined {
  const all = Object.getOwnPropertySymbols(new Socket());
  const named = (name: string) => all.find(({ description }) => description === name);
  const [buffer, callback] = [named("kBuffer"), named("kBufferCb")];
  return buffer === undefined || callback === undefined ? undefined : { buffer, callback };
}
