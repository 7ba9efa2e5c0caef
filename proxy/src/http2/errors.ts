/** RFC 9113, 7. */
export const errorCodes = {
  NO_ERROR: 0,
  PROTOCOL_ERROR: 1,
  INTERNAL_ERROR: 2,
  FLOW_CONTROL_ERROR: 3,
  SETTINGS_TIMEOUT: 4,
  STREAM_CLOSED: 5,
  FRAME_SIZE_ERROR: 6,
  REFUSED_STREAM: 7,
  CANCEL: 8,
  COMPRESSION_ERROR: 9,
  CONNECT_ERROR: 10,
  ENHANCE_YOUR_CALM: 11,
} as const;

export type ErrorName = keyof typeof errorCodes;

/** What one side did that HTTP/2 does not allow: it ends the connection, or the one stream that it names. */
export class Http2Error extends Error {
  readonly code: ErrorName;
  readonly stream: number;

  /** `stream` 0: the connection. */
  constructor(code: ErrorName, what: string, stream = 0) {
    super(what);
    this.code = code;
    this.stream = stream;
  }
}
