import { badRequest, Refusal } from "./refusal.ts";

// kubectl 1.35 sends the objects of its typed commands (create configmap, auth whoami) as protobuf, whatever was
// negotiated before. So the few messages that such commands send are read here; answers are always JSON.
// Envelope: k8s.io/apimachinery/pkg/runtime/serializer/protobuf. Numbers: the generated.proto of each group.

type Field = "text" | "base64" | "number" | "flag" | "texts" | "bytesByText" | Message;
interface Message {
  [number: number]: readonly [name: string, field: Field];
}

const metadata: Message = {
  1: ["name", "text"],
  2: ["generateName", "text"],
  3: ["namespace", "text"],
  11: ["labels", "texts"],
  12: ["annotations", "texts"],
};
const messages: Record<string, Message> = {
  Namespace: { 1: ["metadata", metadata] },
  ConfigMap: {
    1: ["metadata", metadata],
    2: ["data", "texts"],
    3: ["binaryData", "bytesByText"],
    4: ["immutable", "flag"],
  },
  Secret: {
    1: ["metadata", metadata],
    2: ["data", "bytesByText"],
    3: ["type", "text"],
    4: ["stringData", "texts"],
    5: ["immutable", "flag"],
  },
  DeleteOptions: { 1: ["gracePeriodSeconds", "number"], 2: ["preconditions", { 1: ["uid", "text"] }] },
  SelfSubjectReview: {},
  SelfSubjectAccessReview: {},
  SelfSubjectRulesReview: {},
};

const magic = Buffer.from("k8s\0");
export const isProtobuf = (body: Buffer): boolean => body.subarray(0, 4).equals(magic);

/** An object in its envelope → the object that JSON would have been. Throws 415 for a kind that is not in the table. */
export function parseProtobuf(body: Buffer): Record<string, unknown> {
  const typeMeta: Message = { 1: ["apiVersion", "text"], 2: ["kind", "text"] };
  const envelope = readMessage(body.subarray(4), { 1: ["type", typeMeta], 2: ["raw", "base64"] });
  const type = envelope.type as { apiVersion?: string; kind?: string } | undefined;
  const message = messages[type?.kind ?? ""];
  if (message === undefined) {
    throw new Refusal(415, "UnsupportedMediaType", `the sample API server does not read a ${type?.kind} as protobuf`);
  }
  return { ...type, ...readMessage(Buffer.from((envelope.raw as string | undefined) ?? "", "base64"), message) };
}

function readMessage(bytes: Buffer, message: Message): Record<string, unknown> {
  const object: Record<string, unknown> = {};
  for (const { number, value } of readFields(bytes)) {
    const [name, field] = message[number] ?? [];
    if (name === undefined || field === undefined) continue;
    if (field === "texts" || field === "bytesByText") {
      const pair = readMessage(value, { 1: ["key", "text"], 2: ["value", field === "texts" ? "text" : "base64"] });
      const before = (object[name] ?? {}) as Record<string, unknown>;
      object[name] = { ...before, [(pair.key as string | undefined) ?? ""]: pair.value ?? "" };
    } else if (typeof field === "object") object[name] = readMessage(value, field);
    else if (field === "text") {
      // Go writes empty strings out; in JSON they would be left out.
      if (value.length > 0 || name === "value") object[name] = value.toString("utf8");
    } else if (field === "base64") object[name] = value.toString("base64");
    else object[name] = field === "flag" ? value.some((byte) => byte !== 0) : readVarint(value, 0).value;
  }
  return object;
}

/** The fields of a message; a varint comes as its bytes. */
function* readFields(bytes: Buffer): Generator<{ number: number; value: Buffer }> {
  let at = 0;
  while (at < bytes.length) {
    const tag = readVarint(bytes, at);
    at = tag.end;
    const number = Math.floor(tag.value / 8);
    const wire = tag.value % 8;
    const start = wire === 2 ? readVarint(bytes, at) : { value: 0, end: at };
    const lengths: Record<number, number> = { 1: 8, 2: start.value, 5: 4 };
    const end = wire === 0 ? readVarint(bytes, at).end : start.end + (lengths[wire] ?? Number.NaN);
    if (!(end <= bytes.length)) throw badRequest("the protobuf body cannot be read");
    yield { number, value: bytes.subarray(wire === 0 ? at : start.end, end) };
    at = end;
  }
}

function readVarint(bytes: Buffer, from: number): { value: number; end: number } {
  let value = 0;
  for (let at = from; at < Math.min(bytes.length, from + 10); at += 1) {
    const byte = bytes[at] ?? 0;
    value += (byte & 0x7f) * 2 ** (7 * (at - from));
    if (byte < 0x80) return { value, end: at + 1 };
  }
  throw badRequest("the protobuf body cannot be read");
}
