import { Socket } from "node:net";
import { recordSize } from "./spare-buffers.ts";

/** Gets what was read, lent until it returns: whoever keeps any of it, or writes it, copies it. */
export type OnBytes = (bytes: Buffer) => void;

/** What Node takes as `onread`; its own type makes a method of the callback, which could not be handed on. */
export interface OnRead {
  buffer: Buffer;
  callback: (count: number) => boolean;
}

/**
 * Reading round Node's stream machinery, for sockets with one reader: no stream state and no new buffer per read. All sockets
 * read into one buffer, so what came is lent.
 */
export class ReadBuffer {
  readonly #into = Buffer.allocUnsafeSlow(recordSize);
  /** Its beginning, as it was lent last: many reads are of one length. */
  #lent = this.#into;

  /** What tls.connect takes as `onread`, in place of "data" events. */
  reader(onBytes: OnBytes): OnRead {
    return {
      buffer: this.#into,
      callback: (count) => {
        if (this.#lent.length !== count) this.#lent = this.#into.subarray(0, count);
        onBytes(this.#lent);
        return true;
      },
    };
  }

  /** The same for a socket that has come in. */
  readFrom(socket: Socket, onBytes: OnBytes): void {
    // What was read before this; and everything, where Node keeps `onread` elsewhere: that is only slower.
    socket.on("data", onBytes);
    setOnread(socket, this.reader(onBytes));
  }
}

/** For what clients say. */
export const clientReads = new ReadBuffer();

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
