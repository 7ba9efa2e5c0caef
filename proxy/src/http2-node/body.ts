import { constants, type Http2Stream } from "node:http2";

/**
 * Tells an end that a stream's sender has sent from one that a reset or a dead connection brought: node:http2 emits "end" for
 * both. The difference shows in the moment in which the end is pushed, when a stream that was broken off is closed already.
 */
export class StreamEnd {
  #sent: boolean;

  /** To be made before anything of the stream is read. `flags`: of the frame that opened it. */
  constructor(stream: Http2Stream, flags = 0) {
    // Between the frame and its event more may have come.
    this.#sent = (flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0 || stream.state.remoteClose === 1;
    const push = stream.push.bind(stream);
    stream.push = (chunk: unknown, encoding?: BufferEncoding) => {
      if (chunk === null && !stream.closed && !stream.destroyed) this.#sent = true;
      return push(chunk, encoding);
    };
  }

  /** Whether END_STREAM has come. */
  get wasSent(): boolean {
    return this.#sent;
  }
}

export interface Carrier {
  from: Http2Stream;
  to: Http2Stream;
  end: StreamEnd;
  /** Whether it is still wanted; what is not is read and thrown away, so that the connection's window comes back. */
  isWanted: () => boolean;
  onBytes: (count: number) => void;
  /** Its sender has ended it; called before the receiver is told. */
  onEnd: () => void;
}

/** Passes a body on as it comes, as fast as its receiver takes it. */
export function carry({ from, to, end, isWanted, onBytes, onEnd }: Carrier): void {
  from.on("data", (bytes: Buffer) => {
    if (!isWanted()) return;
    onBytes(bytes.length);
    if (!to.write(bytes)) from.pause();
  });
  to.on("drain", () => from.resume());
  const ended = () => {
    if (!end.wasSent || !isWanted()) return;
    onEnd();
    to.end();
  };
  // A body without a byte has ended before anybody looked.
  if (from.readableEnded) ended();
  else from.once("end", ended);
}
