/**
 * What tls.connect offers by ALPN, made once for all connections (https://www.rfc-editor.org/rfc/rfc7301#section-3.1).
 * Node keeps a copy with each connection. Of names and of a Uint8Array it is a few bytes of a Buffer pool, the 64 KiB of
 * which then stay for as long as the connection does; of a DataView it is those bytes alone.
 */
export function alpnOf(...names: readonly string[]): DataView<ArrayBuffer> {
  const bytes = names.flatMap((name) => [name.length, ...new TextEncoder().encode(name)]);
  return new DataView(Uint8Array.from(bytes).buffer);
}
