import type { Secret } from "@kube-connector/core";
import { requestToken } from "../gate.ts";
import type { Header, RequestHead } from "../http1/head.ts";

/**
 * Takes the request tokens out of the heads of one connection. A field that comes again is the same object, out of the
 * header table, and its token then is the same Secret, so that what is known of it need not be found out again.
 */
export class RequestTokens {
  #field: Header | undefined;
  #token: Secret | undefined;

  /** Refusal: 401 when there is not exactly one. */
  of(head: RequestHead): Secret {
    let field: Header | undefined;
    for (const header of head.headers) {
      if (header.lower !== "authorization") continue;
      // Two of them are never a token, whatever they are.
      if (field !== undefined) return requestToken(head);
      field = header;
    }
    if (this.#token === undefined || this.#field !== field) {
      this.#token = requestToken(head);
      this.#field = field;
    }
    return this.#token;
  }
}
