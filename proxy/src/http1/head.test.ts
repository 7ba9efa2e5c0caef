import { describe, expect, test } from "vitest";
import { Refusal } from "../answers.ts";
import { LastLines, parseConnectHead, parseRequestHead, parseResponseHead } from "./head.ts";

// The strict reader of heads takes what every HTTP/1.1 parser reads in the same way, and refuses all else: the tables
// below are the whole of what clients and targets may send.

const host = "Host: a";
const request = (...lines: string[]) => lines.join("\r\n");

function refusedWith(parse: () => unknown): number | undefined {
  try {
    parse();
    return undefined;
  } catch (error) {
    if (error instanceof Refusal) return error.http;
    throw error;
  }
}

describe("requests", () => {
  test.each([
    ["a GET", request("GET / HTTP/1.1", host), "none", 0],
    ["a PATCH with a length", request("PATCH /x HTTP/1.1", host, "Content-Length: 5"), "length", 5],
    ["15 digits", request("PUT /x HTTP/1.1", host, "Content-Length: 999999999999999"), "length", 999_999_999_999_999],
    ["a length of 0", request("POST /x HTTP/1.1", host, "content-length:0"), "none", 0],
    ["chunks", request("POST /x HTTP/1.1", host, "Transfer-Encoding: chunked"), "chunked", 0],
    ["chunks in capitals", request("POST /x HTTP/1.1", host, "transfer-encoding:CHUNKED "), "chunked", 0],
    ["Expect", request("POST /x HTTP/1.1", host, "Expect: 100-Continue", "Content-Length: 1"), "length", 1],
    ["an empty value", request("GET / HTTP/1.1", host, "X:"), "none", 0],
    ["bytes above ASCII in a value", request("GET / HTTP/1.1", host, "X: \xa0\xff"), "none", 0],
    ["a second line of a name", request("GET / HTTP/1.1", host, "X: 1", "X: 2"), "none", 0],
    ["OPTIONS", request("OPTIONS /x HTTP/1.1", host), "none", 0],
  ])("takes %s", (_what, text, body, length) => {
    expect(parseRequestHead(text)).toMatchObject({ body, length });
  });

  test.each([
    ["length and chunks", 400, request("POST / HTTP/1.1", host, "Content-Length: 1", "Transfer-Encoding: chunked")],
    ["chunks and length", 400, request("POST / HTTP/1.1", host, "Transfer-Encoding: chunked", "Content-Length: 0")],
    ["two equal lengths", 400, request("POST / HTTP/1.1", host, "Content-Length: 1", "Content-Length: 1")],
    ["a list of lengths", 400, request("POST / HTTP/1.1", host, "Content-Length: 1, 1")],
    ["a signed length", 400, request("POST / HTTP/1.1", host, "Content-Length: +1")],
    ["a hex length", 400, request("POST / HTTP/1.1", host, "Content-Length: 0x1")],
    ["an empty length", 400, request("POST / HTTP/1.1", host, "Content-Length:")],
    ["16 digits", 400, request("POST / HTTP/1.1", host, "Content-Length: 1000000000000000")],
    ["two Transfer-Encodings", 400, request("POST / HTTP/1.1", host, ...Array(2).fill("Transfer-Encoding: chunked"))],
    ["gzip, chunked", 400, request("POST / HTTP/1.1", host, "Transfer-Encoding: gzip, chunked")],
    ["identity", 400, request("POST / HTTP/1.1", host, "Transfer-Encoding: identity")],
    ["xchunked", 400, request("POST / HTTP/1.1", host, "Transfer-Encoding: xchunked")],
    ["chunked with a vertical tab", 400, request("POST / HTTP/1.1", host, "Transfer-Encoding: \vchunked")],
    ["chunked after a no-break space", 400, request("POST / HTTP/1.1", host, "Transfer-Encoding: \xa0chunked")],
    ["chunked before a tab", 400, request("POST / HTTP/1.1", host, "Transfer-Encoding: chunked\t")],
    ["a length after a tab", 400, request("POST / HTTP/1.1", host, "Content-Length:\t1")],
    ["trailers that are framing", 400, request("POST / HTTP/1.1", host, "Trailer: X, content-length")],
    ["HTTP/1.0", 505, request("GET / HTTP/1.0", host)],
    ["HTTP/2.0", 505, request("PRI * HTTP/2.0", host)],
    ["HTTP/0.9", 400, "GET /"],
    ["a lower-case version", 400, request("GET / http/1.1", host)],
    ["a bare LF in a value", 400, request("GET / HTTP/1.1", host, "X: 1\nY: 2")],
    ["a bare CR in a value", 400, request("GET / HTTP/1.1", host, "X: 1\rY: 2")],
    ["a NUL", 400, request("GET / HTTP/1.1", host, "X: a\0b")],
    ["a control character", 400, request("GET / HTTP/1.1", host, "X: \x01")],
    ["DEL", 400, request("GET / HTTP/1.1", host, "X: \x7f")],
    ["a folded line", 400, request("GET / HTTP/1.1", host, "X: 1", " 2")],
    ["a folded first line", 400, request("GET / HTTP/1.1", " X: 1", host)],
    ["a blank before the colon", 400, request("GET / HTTP/1.1", host, "X : 1")],
    ["a tab before the colon", 400, request("POST / HTTP/1.1", host, "Content-Length\t: 1")],
    ["a name that is no token", 400, request("GET / HTTP/1.1", host, "X(: 1")],
    ["an empty name", 400, request("GET / HTTP/1.1", host, ": 1")],
    ["a line without colon", 400, request("GET / HTTP/1.1", host, "X")],
    ["a name above ASCII", 400, request("GET / HTTP/1.1", host, "X\xe9: 1")],
    ["no Host", 400, request("GET / HTTP/1.1", "X: 1")],
    ["two Hosts", 400, request("GET / HTTP/1.1", host, host)],
    ["absolute-form", 400, request("GET https://a/ HTTP/1.1", host)],
    ["asterisk-form", 400, request("OPTIONS * HTTP/1.1", host)],
    ["CONNECT", 405, request("CONNECT a:443 HTTP/1.1", host)],
    ["TRACE", 405, request("TRACE / HTTP/1.1", host)],
    ["an unknown method", 405, request("BREW / HTTP/1.1", host)],
    ["a method in lower case", 405, request("get / HTTP/1.1", host)],
    ["two blanks", 400, request("GET  / HTTP/1.1", host)],
    ["a tab as blank", 400, request("GET\t/ HTTP/1.1", host)],
    ["a blank in front", 400, request(" GET / HTTP/1.1", host)],
    ["a blank in the path", 400, request("GET /a b HTTP/1.1", host)],
    ["an empty line in front", 400, request("", "GET / HTTP/1.1", host)],
    ["another Expect", 417, request("POST / HTTP/1.1", host, "Expect: 200-ok")],
    ["two Expects", 417, request("POST / HTTP/1.1", host, "Expect: 100-continue", "Expect: x")],
    ["a Connection that is no list of tokens", 400, request("GET / HTTP/1.1", host, 'Connection: "close"')],
  ])("refuses %s with %i", (_what, status, text) => {
    expect(refusedWith(() => parseRequestHead(text))).toBe(status);
  });

  test("what is wrong with the first line is said first", () => {
    const wrong = request("", "GET / HTTP/1.1", "no colon");
    expect(() => parseRequestHead(wrong)).toThrow("its first line should be METHOD TARGET HTTP/1.1");
  });

  test("lines of one name stay apart, in order and byte for byte", () => {
    const { headers } = parseRequestHead(request("GET / HTTP/1.1", host, "x-A: 1", "X-a: \xa02\xa0"));
    expect(headers.slice(1)).toEqual([
      { name: "x-A", lower: "x-a", value: "1", line: "x-A: 1" },
      { name: "X-a", lower: "x-a", value: "\xa02\xa0", line: "X-a: \xa02\xa0" },
    ]);
  });

  test("the items of all Connection lines are gathered in lower case", () => {
    const { connection } = parseRequestHead(
      request("GET / HTTP/1.1", host, "Connection: close, X-One", "connection: ,X-Two"),
    );
    expect([...connection]).toEqual(["close", "x-one", "x-two"]);
  });
});

describe("CONNECT", () => {
  test.each(["HTTP/1.1", "HTTP/1.0"])("takes %s without Host, as old Python sends it", (version) => {
    expect(parseConnectHead(`CONNECT a:443 ${version}`)).toMatchObject({ method: "CONNECT", target: "a:443" });
  });

  test("refuses a body", () => {
    expect(refusedWith(() => parseConnectHead(request("CONNECT a:443 HTTP/1.1", "Content-Length: 1")))).toBe(400);
  });
});

describe("answers", () => {
  test.each([
    ["GET", request("HTTP/1.1 200 OK", "Content-Length: 3"), "length"],
    ["GET", request("HTTP/1.1 200 OK", "Content-Length: 0"), "none"],
    ["GET", request("HTTP/1.1 200 OK", "Transfer-Encoding: chunked"), "chunked"],
    ["GET", request("HTTP/1.1 200 OK"), "eof"],
    ["GET", "HTTP/1.1 200", "eof"],
    ["GET", request("HTTP/1.0 200 OK"), "eof"],
    ["HEAD", request("HTTP/1.1 200 OK", "Content-Length: 3"), "none"],
    ["HEAD", request("HTTP/1.1 200 OK", "Transfer-Encoding: chunked"), "none"],
    ["GET", request("HTTP/1.1 204 No Content", "Content-Length: 3"), "none"],
    ["GET", request("HTTP/1.1 304 Not Modified", "Content-Length: 3"), "none"],
    ["GET", request("HTTP/1.1 100 Continue"), "none"],
  ])("%s: %j has the body kind %s", (method, text, body) => {
    expect(parseResponseHead(text, method)).toMatchObject({ body });
  });

  test.each([
    request("HTTP/1.1 200 OK", "Content-Length: 3", "Transfer-Encoding: chunked"),
    request("HTTP/1.1 200 OK", "Content-Length: 3", "Content-Length: 3"),
    request("HTTP/1.1 200 OK", "Transfer-Encoding: chunked\t"),
    request("HTTP/1.1 200 OK", "Trailer: Content-Length", "Transfer-Encoding: chunked"),
    request("HTTP/1.1 200 OK", "Trailer: X,\tTransfer-Encoding "),
    request("HTTP/1.0 200 OK", "Transfer-Encoding: chunked"),
    request("HTTP/1.1 200 OK", "X: 1", " folded"),
    request("HTTP/1.1 200 OK", "X : 1"),
    request("HTTP/1.1 200 OK", "X: a\nSet-Cookie: b"),
    request("HTTP/1.1 200 O\nK"),
    "HTTP/2 200 OK",
    "HTTP/1.1 099 X",
    "HTTP/1.1 2000 X",
    "HTTP/1.1  200 OK",
    "ICY 200 OK",
    "",
  ])("refuses %j", (text) => {
    expect(refusedWith(() => parseResponseHead(text, "GET"))).toBe(400);
  });
});

describe("the header lines of the request before", () => {
  const first = request("GET /one HTTP/1.1", host, "Content-Length: 3", "Authorization: Bearer a");

  test("are not read again when they are the same, whatever is asked for", () => {
    const last = new LastLines();
    const { headers } = parseRequestHead(first, last);
    const next = parseRequestHead(first.replace("GET /one", "PUT /two"), last);
    expect(next.headers).toBe(headers);
    expect(next).toMatchObject({ method: "PUT", target: "/two", body: "length", length: 3, host: "a" });
  });

  test.each([
    ["another value", first.replace("Bearer a", "Bearer b")],
    ["another case", first.replace("Bearer a", "bearer a")],
    ["one line more", `${first}\r\nX: y`],
    ["one line less", request("GET / HTTP/1.1", host, "Authorization: Bearer a")],
  ])("are forgotten for %s", (_what, text) => {
    const last = new LastLines();
    parseRequestHead(first, last);
    expect(parseRequestHead(text, last)).toEqual(parseRequestHead(text));
  });

  test("that have come twice are known by their bytes, and are the same without a text of them", () => {
    const last = new LastLines();
    const whole = parseRequestHead(first, last);
    expect(last.bytes).toBeUndefined();
    parseRequestHead(first, last);
    expect(`GET /one HTTP/1.1\r\n${String(last.bytes)}`).toBe(`${first}\r\n\r\n`);
    expect(parseRequestHead("GET /one HTTP/1.1", last, true)).toEqual(whole);
    expect(refusedWith(() => parseRequestHead("GET /one HTTP/1.0", last, true))).toBe(505);
    parseRequestHead(`${first}\r\nX: y`, last);
    expect(last.bytes).toBeUndefined();
  });

  test("do not hide what is wrong with the next ones, nor with the same ones", () => {
    const last = new LastLines();
    parseRequestHead(first, last);
    const wrong = `${first}\r\nContent-Length: 3`;
    for (const text of [wrong, wrong, "GET / HTTP/1.1", first.replace("GET", "TRACE")]) {
      expect(refusedWith(() => parseRequestHead(text, last))).toBeDefined();
    }
    expect(parseRequestHead(first, last)).toEqual(parseRequestHead(first));
  });
});
