import { failureStatus } from "@kube-connector/core";
import { Refusal } from "../answers.ts";
import { Inbox } from "../http1/inbox.ts";
import type { MetadataForm } from "./ask.ts";
import { Lines, ListPieces, objectLimit, tooLarge } from "./pieces.ts";
import { parseJson, reduceEvent, reduceList, reduceObject, reduceStatus } from "./reduce.ts";
import { tableHead, tableOf, tableRow } from "./table.ts";

/** Most bytes of a target's error that are looked at; of a larger one only its number is told. */
const errorLimit = 262_144;

/** The content of an answer → the part that may leave. Knows nothing of how it is carried. */
export interface ReducedBody {
  /** Text that may go out now. Refusal (502) when what came is no metadata. */
  take(bytes: Buffer): string;
  /** The rest, when all has come. Refusal as above, also when it ends too early. */
  end(): string;
  /** Whether it could end here, and its reader would take it for complete. */
  mayEnd(): boolean;
}

/** For the answer to get, list or watch with that status. Refusal (502) when no such answer may pass. */
export function createReducedBody(verb: string, status: number, form: MetadataForm = "metadata"): ReducedBody {
  if (status >= 400) return reducedError(status);
  if (status !== 200) {
    throw new Refusal(502, `The target answered with ${status} where the connector's policy shows only metadata`);
  }
  const shape = form === "table" ? tableOf : (object: Json) => object;
  if (verb === "watch") return reducedWatch(shape);
  return verb === "list" ? reducedList(form) : wholeBody((text) => shape(reduceObject(parseJson(text))));
}

type Json = { readonly [key: string]: unknown };

function reducedWatch(shape: (object: Json) => Json): ReducedBody {
  const lines = new Lines();
  return {
    take: (bytes) =>
      lines
        .take(bytes)
        .map((line) => `${JSON.stringify(reduceEvent(parseJson(line), shape))}\n`)
        .join(""),
    end: () => {
      if (!lines.isBetween) throw tooEarly();
      return "";
    },
    mayEnd: () => lines.isBetween,
  };
}

function reducedList(form: MetadataForm): ReducedBody {
  const pieces = new ListPieces();
  const open = (list: Json) =>
    form === "table"
      ? `${JSON.stringify(tableHead(list.metadata)).slice(0, -1)},"rows":[`
      : `${JSON.stringify(list).slice(0, -1)},"items":[`;
  const shape = form === "table" ? tableRow : (object: Json) => object;
  let items = 0;
  return {
    take(bytes) {
      let text = "";
      for (const piece of pieces.take(bytes)) {
        if (piece.is === "head") text += open(reduceList(parseJson(piece.text)));
        else if (piece.is === "item") {
          text += `${items === 0 ? "" : ","}${JSON.stringify(shape(reduceObject(parseJson(piece.text))))}`;
          items += 1;
        } else text += "]}\n";
      }
      return text;
    },
    end: () => {
      if (!pieces.isOver) throw tooEarly();
      return "";
    },
    mayEnd: () => false,
  };
}

/** An error passes as a Status; what is no Status is told by its number alone. */
function reducedError(status: number): ReducedBody {
  const unreadable = (): unknown =>
    failureStatus("unavailable", `The target answered with ${status}`, { http: status, reason: "" });
  let bytes = 0;
  const whole = wholeBody((text) => {
    try {
      return bytes > errorLimit ? unreadable() : reduceStatus(parseJson(text));
    } catch {
      return unreadable();
    }
  });
  return {
    ...whole,
    take(more) {
      bytes += more.length;
      return bytes > errorLimit ? "" : whole.take(more);
    },
  };
}

function wholeBody(read: (text: string) => unknown): ReducedBody {
  const inbox = new Inbox();
  return {
    take(bytes) {
      inbox.add(Buffer.from(bytes));
      if (inbox.length > objectLimit) throw tooLarge();
      return "";
    },
    end: () => `${JSON.stringify(read(inbox.takeAll().toString("utf8")))}\n`,
    mayEnd: () => false,
  };
}

function tooEarly(): Refusal {
  return new Refusal(502, "The target's answer ended in the middle");
}
