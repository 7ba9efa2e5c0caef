import { type DescField, type DescMessage, getOption, type MessageShape } from "@bufbuild/protobuf";
import { type ReflectMessage, reflect } from "@bufbuild/protobuf/reflect";
import { csi_secret } from "./gen/csi_pb.ts";
import { attributes } from "./volume.ts";

const mask = "***";
const shown: readonly string[] = Object.values(attributes);

/**
 * A message as text for the debug log. Fields that the .proto marks as secret print `***`, and so does each value of a
 * map whose key is none of our own attributes: tokens have leaked from other drivers by volume_context
 * (CVE-2023-2878, CVE-2024-3744).
 */
export function dumpMessage<D extends DescMessage>(schema: D, message: MessageShape<D>): string {
  return JSON.stringify(walk(reflect(schema, message)), (_, value: unknown) =>
    typeof value === "bigint" ? value.toString() : value,
  );
}

function walk(message: ReflectMessage): Record<string, unknown> {
  const fields = message.desc.fields.filter((field) => message.isSet(field));
  return Object.fromEntries(fields.map((field) => [field.name, show(message, field)]));
}

function show(message: ReflectMessage, field: DescField): unknown {
  if (getOption(field, csi_secret)) return mask;
  switch (field.fieldKind) {
    case "message":
      return walk(message.get(field));
    case "map":
      return Object.fromEntries(
        [...message.get(field)].map(([key, value]) => [key, shown.includes(String(key)) ? value : mask]),
      );
    case "list": {
      const items: unknown[] = [...message.get(field)];
      return items.map((item) => (field.listKind === "message" ? walk(item as ReflectMessage) : item));
    }
    case "scalar":
    case "enum":
      break;
  }
  return message.get(field);
}
