import { type ApiServer, type Connector, Fault, type KubeObject, type Secret } from "@kube-connector/core";
import { type CertificateNames, type Minted, mintAuthority, mintLeaf } from "../certificates.ts";
import { type Child, fieldManager, isOurs, observe, pathOf } from "../kube/apply.ts";
import type { EventText } from "../kube/events.ts";
import type { World } from "../world.ts";
import {
  type AuthorityState,
  authorityEntries,
  bundleOf,
  leafIsGood,
  nextLook,
  planAuthority,
  secretEntries,
} from "./authority.ts";
import { connectorLabels } from "./children.ts";

export interface Certified {
  /** PEM, for the status. */
  bundle: string;
  /** A new leaf; undefined when the one in the resolved Secret can stay. */
  leaf: Minted | undefined;
  /** When to look again. Milliseconds since 1970. */
  lookAgainAt: number;
  events: EventText[];
}

export interface CertifyInput {
  connector: Connector;
  names: CertificateNames;
  /** The CA Secret and the resolved Secret. */
  authority: { namespace: string; name: string };
  resolved: { namespace: string; name: string };
}

interface Hands {
  api: ApiServer;
  world: World;
  now: () => number;
}

/** Brings CA and leaf up to date. Keys are read from the API server when one signs, and not kept. */
export async function certify(input: CertifyInput, hands: Hands): Promise<Certified> {
  const { world, api } = hands;
  const place = { kind: "Secret", ...input.authority } as const;
  const events: EventText[] = [];
  // From nothing, or from any step of a rotation, it takes at most two steps; a third would be a mistake of ours.
  for (let steps = 0; ; steps += 1) {
    const child = world.child(place);
    const todo = planAuthority(child?.authority, input.names, hands.now());
    if (todo.step === "none") break;
    if (steps > 3) throw new Fault("internal", "The CA does not come to rest");
    if (child === undefined) await createAuthority(input, hands);
    else await changeAuthority(input, hands, todo.step, { uid: child.uid, resourceVersion: child.resourceVersion });
    if (todo.step === "mint" && input.connector.status?.proxy?.caBundle !== undefined) {
      events.push(replaced(todo.because));
    }
  }
  const state = world.child(place)?.authority;
  if (state === undefined) throw new Fault("conflict", "The CA Secret vanished while it was made");
  const leaf = world.child({ kind: "Secret", ...input.resolved })?.resolved?.leaf;
  const minted = leafIsGood(leaf, state, input.names, hands.now()) ? undefined : await newLeaf(input, state, hands);
  return {
    bundle: bundleOf(state),
    leaf: minted,
    lookAgainAt: nextLook(state, minted === undefined ? leaf : undefined),
    events,
  };

  async function newLeaf(of: CertifyInput, expected: AuthorityState, { now }: Hands): Promise<Minted> {
    const live = secretEntries(await api.request<KubeObject>("GET", pathOf("Secret", place.namespace, place.name)));
    const certificate = live[authorityEntries.certificate];
    const key = live[authorityEntries.key];
    if (expected.signing === undefined || certificate === undefined || key === undefined) {
      throw new Fault("conflict", "The CA Secret lost its key while a leaf was made");
    }
    return await mintLeaf({ certificate: certificate.reveal(), key }, of.names, now());
  }
}

function replaced(because: "absent" | "names" | "expired"): EventText {
  const why = {
    absent: "Its Secret was deleted or unusable",
    names: "The target's host has changed",
    expired: "It had expired",
  }[because];
  return {
    type: "Warning",
    reason: "CertificateAuthorityReplaced",
    message: `The connector has a new CA. ${why}. Processes that read their kubeconfig before this must be restarted.`,
  };
}

const encode = (text: string) => Buffer.from(text, "utf8").toString("base64");
const seal = (secret: Secret) => encode(secret.reveal());

async function createAuthority(input: CertifyInput, hands: Hands): Promise<void> {
  const { api, world } = hands;
  const { namespace, name } = input.authority;
  const minted = await mintAuthority(input.names, hands.now());
  const metadata = { name, namespace, labels: connectorLabels(input.connector) };
  const data = {
    [authorityEntries.certificate]: encode(minted.certificate),
    [authorityEntries.key]: seal(minted.key),
  };
  try {
    const body = { apiVersion: "v1", kind: "Secret", type: "Opaque", metadata, data };
    const created = await api.request<KubeObject>("POST", pathOf("Secret", namespace), {
      query: { fieldManager },
      body,
    });
    world.wrote("Secret", created);
  } catch (error) {
    if (!(error instanceof Fault && error.answer?.reason === "AlreadyExists")) throw error;
    const live = await api.request<KubeObject>("GET", pathOf("Secret", namespace, name));
    const wanted: Child = { kind: "Secret", namespace, name, object: { metadata } };
    if (!isOurs(observe("Secret", live), wanted)) {
      throw new Fault("conflict", `The Secret ${namespace}/${name} is not ours; delete or rename it`);
    }
    world.wrote("Secret", live);
  }
}

async function changeAuthority(
  input: CertifyInput,
  hands: Hands,
  step: "mint" | "mintNext" | "promote" | "dropPrevious",
  seen: { uid: string; resourceVersion: string },
): Promise<void> {
  const path = pathOf("Secret", input.authority.namespace, input.authority.name);
  const names = authorityEntries;
  const none = { [names.nextCertificate]: null, [names.nextKey]: null };
  let data: Record<string, string | null>;
  if (step === "dropPrevious") data = { [names.previousCertificate]: null };
  else if (step === "promote") {
    const live = secretEntries(await hands.api.request<KubeObject>("GET", path));
    const certificate = live[names.certificate];
    const next = live[names.nextCertificate];
    const nextKey = live[names.nextKey];
    if (certificate === undefined || next === undefined || nextKey === undefined) {
      throw new Fault("conflict", "The CA Secret changed while its next certificate was to take over");
    }
    data = {
      [names.certificate]: seal(next),
      [names.key]: seal(nextKey),
      ...none,
      [names.previousCertificate]: seal(certificate),
    };
  } else {
    const minted = await mintAuthority(input.names, hands.now());
    data =
      step === "mintNext"
        ? { [names.nextCertificate]: encode(minted.certificate), [names.nextKey]: seal(minted.key) }
        : {
            [names.certificate]: encode(minted.certificate),
            [names.key]: seal(minted.key),
            ...none,
            [names.previousCertificate]: null,
          };
  }
  const changed = await hands.api.request<KubeObject>("PATCH", path, {
    query: { fieldManager },
    contentType: "application/merge-patch+json",
    // The version too: a key that another has written in between must not be lost.
    body: { metadata: seen, data },
  });
  hands.world.wrote("Secret", changed);
}
