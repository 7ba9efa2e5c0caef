import { Refusal } from "../answers.ts";
import { requestInHand, unreadRequest } from "../http1/request.ts";
import type { RelayCore } from "./core.ts";
import { Http2Error } from "./errors.ts";
import { protocolError } from "./frames.ts";
import type { FieldList } from "./hpack-decoder.ts";
import { RequestReader, readRequestTrailers } from "./message.ts";
import { firstWindow, type PeerListener, windowLimit } from "./peer.ts";
import { Stream, type StreamOwner } from "./stream.ts";

/** Streams that a client may have at once. */
export const streamLimit = 250;

/** What the client says about streams. */
export class ClientSide implements PeerListener, StreamOwner {
  /** The highest stream id that it has used. */
  lastId = 0;
  readonly #relay: RelayCore;
  readonly #requests = new RequestReader();
  #dataEnds = false;

  constructor(relay: RelayCore) {
    this.#relay = relay;
  }

  headers(id: number, endStream: boolean, list: FieldList, dependsOn: number): void {
    if (id % 2 === 0) throw protocolError("a client's streams have odd ids");
    const known = this.#relay.streams.open.get(id);
    if (known !== undefined) {
      this.#trailers(known, endStream, list);
      return;
    }
    if (id <= this.lastId) {
      this.#late(id);
      return;
    }
    this.lastId = id;
    if (!this.#relay.takes(id)) this.#relay.streams.close(id, "reset");
    else if (dependsOn === id) throw new Http2Error("PROTOCOL_ERROR", "a stream depends on itself", id);
    else this.#request(id, endStream, list);
  }

  #request(id: number, endStream: boolean, list: FieldList): void {
    if (this.#relay.streams.open.size >= streamLimit) {
      throw new Http2Error("REFUSED_STREAM", `more than ${streamLimit} streams at once`, id);
    }
    try {
      const { limits } = this.#relay.collaborators;
      if (list.tooLarge) {
        throw new Refusal(431, `The headers of the request are larger than ${limits.head} bytes`);
      }
      const { head, length } = this.#requests.read(list.fields, { id, ended: endStream });
      const stream = this.#open(id, requestInHand(head, this.#relay.now()), endStream);
      stream.requestLeft = length;
      this.#relay.serve(stream, head);
    } catch (error) {
      if (error instanceof Http2Error) this.#relay.reportUnread(error);
      if (!(error instanceof Refusal)) throw error;
      this.#relay.refuse(this.#open(id, unreadRequest(this.#relay.now()), endStream), error);
    }
  }

  #open(id: number, request: ReturnType<typeof requestInHand>, ended: boolean): Stream {
    const { streams, client } = this.#relay;
    const stream = new Stream(id, request, {
      toTarget: streams.toTarget,
      toClient: streams.toClient,
      clientWindow: client.streamWindow,
      granted: firstWindow,
      owner: this,
    });
    streams.add(stream);
    if (ended) {
      stream.clientEnded = true;
      stream.toTarget.finish();
    }
    return stream;
  }

  /** The answer is out, whole. */
  streamEnded(stream: Stream): void {
    if (!stream.clientEnded) this.#relay.client.resetStream(stream.id, "NO_ERROR");
    this.#relay.closed(stream, stream.clientEnded ? "done" : "reset");
  }

  #trailers(stream: Stream, endStream: boolean, list: FieldList): void {
    const { id } = stream;
    if (stream.clientEnded) throw new Http2Error("STREAM_CLOSED", "HEADERS after the end of a request", id);
    if (!endStream) throw new Http2Error("PROTOCOL_ERROR", "trailers that do not end their request", id);
    if (list.tooLarge) throw new Http2Error("ENHANCE_YOUR_CALM", "a request's trailers are too large", id);
    const fields = readRequestTrailers(list.fields, id);
    if (stream.requestLeft > 0) throw new Http2Error("PROTOCOL_ERROR", "a body is shorter than it promised", id);
    stream.clientEnded = true;
    if (stream.phase !== "own") stream.toTarget.trail(fields);
  }

  /** A frame for a stream that is not open: fine when we have just closed it. */
  #late(id: number): void {
    if (id > this.lastId || id % 2 === 0) throw protocolError("a frame belongs to a stream that is idle");
    const how = this.#relay.streams.howClosed(id);
    if (how === "done") throw new Http2Error("STREAM_CLOSED", "a frame belongs to a stream that is closed");
    if (how === undefined) throw protocolError("a frame belongs to a stream that is long closed, or was passed over");
  }

  dataBegins(id: number, length: number, endStream: boolean): void {
    this.#dataEnds = endStream;
    const stream = this.#relay.streams.open.get(id);
    if (stream === undefined) {
      this.#late(id);
      return;
    }
    if (stream.clientEnded) throw new Http2Error("STREAM_CLOSED", "DATA after the end of a request", id);
    stream.toTarget.granted -= length;
    if (stream.toTarget.granted < 0) throw new Http2Error("FLOW_CONTROL_ERROR", "DATA beyond the stream's window", id);
  }

  dataBytes(id: number, bytes: Buffer, last: boolean): void {
    const stream = this.#relay.streams.open.get(id);
    if (stream !== undefined && !stream.clientEnded) this.#body(stream, bytes, last && this.#dataEnds);
    if (last) this.#relay.topUp(stream);
  }

  #body(stream: Stream, bytes: Buffer, end: boolean): void {
    stream.bodyAt = this.#relay.now();
    if (stream.requestLeft >= 0) {
      stream.requestLeft -= bytes.length;
      if (stream.requestLeft < 0 || (end && stream.requestLeft > 0)) {
        throw new Http2Error("PROTOCOL_ERROR", "a body is not as long as it promised", stream.id);
      }
    }
    stream.clientEnded = end;
    if (stream.phase === "own" || stream.uploadUnwanted) return;
    this.#relay.collaborators.metrics.bytes("in", bytes.length);
    stream.toTarget.push(bytes, end);
  }

  reset(id: number): void {
    if (id > this.lastId || id % 2 === 0) throw protocolError("RST_STREAM belongs to a stream that is idle");
    this.#relay.client.budget.spend("reset");
    const stream = this.#relay.streams.open.get(id);
    if (stream !== undefined) this.#relay.cancelled(stream);
  }

  streamWindow(id: number, increment: number): void {
    const stream = this.#relay.streams.open.get(id);
    if (stream === undefined) {
      if (id > this.lastId || id % 2 === 0) throw protocolError("WINDOW_UPDATE belongs to a stream that is idle");
      return;
    }
    stream.toClient.window += increment;
    if (stream.toClient.window > windowLimit) {
      throw new Http2Error("FLOW_CONTROL_ERROR", "a stream's window overflows", id);
    }
    stream.toClient.flush();
    this.#relay.topUp(stream);
  }

  connectionWindow(): void {
    this.#relay.streams.toClient.flush();
    this.#relay.topUp();
  }

  settings(windowChange: number): void {
    if (windowChange === 0) return;
    for (const { toClient } of this.#relay.streams.open.all()) {
      toClient.window += windowChange;
      if (toClient.window > windowLimit) throw new Http2Error("FLOW_CONTROL_ERROR", "a stream's window overflows");
    }
    this.#relay.clientWindowChanged(windowChange);
    this.#relay.streams.toClient.flush();
  }

  goAway(): void {
    this.#relay.leave();
  }

  pong(): void {
    this.#relay.ponged();
  }

  streamError(error: Http2Error): void {
    const { client, streams } = this.#relay;
    client.budget.spend("reset");
    const stream = streams.open.get(error.stream);
    if (stream !== undefined) {
      this.#relay.breakOff(stream, error.code);
      return;
    }
    client.resetStream(error.stream, error.code);
    // One that was never opened stays idle.
    if (error.stream <= this.lastId && error.stream % 2 === 1) streams.close(error.stream, "reset");
  }
}
