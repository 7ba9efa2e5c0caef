import type { Pod } from "../kube.ts";
import type { DiagnosisCategory } from "../run.ts";
import type { PodCause } from "./containers.ts";
import { isActive } from "./state.ts";

// Why a pod has no node. The scheduler says for each node the first filter that it did not pass, in the order in which it
// tries them (pkg/scheduler/apis/config/v1/default_plugins.go, 1.35). So the cause is the latest filter that is named: the
// nodes that got so far came closest. A node that is tainted for good says nothing about one that is merely full.

interface Filter {
  category: DiagnosisCategory;
  words: RegExp;
  hint: string;
}

const affinity = "Correct nodeSelector, affinity or topology spread constraints, or ask for nodes that fit them.";
const volume =
  "Check the claim: that it is there, has the right class, and a volume where the pod may run; another pod may hold it.";
const resources = "Ask less in resources.requests, wait until other pods end, or ask for bigger or more nodes.";
const taint =
  "Give the pods a toleration by patch, or ask for nodes without that taint; a cordoned node has to be released.";

const filters: readonly Filter[] = [
  {
    category: "Unschedulable.Affinity",
    words: /pod (anti-)?affinity|anti-affinity rules|topology spread/,
    hint: affinity,
  },
  {
    category: "Unschedulable.Volume",
    words: /persistent ?volume|\bpvc\b|volume zone|volume count|available disk|free storage/i,
    hint: volume,
  },
  {
    category: "Unschedulable.Resources",
    words: /Insufficient|Too many pods|free ports|resource claim|no nodes available/i,
    hint: resources,
  },
  { category: "Unschedulable.Affinity", words: /node affinity|requested node name/, hint: affinity },
  { category: "Unschedulable.Taint", words: /taint|unschedulable|unknown conditions/, hint: taint },
];

/** Why the scheduler has no node for the pod, or does not look for one. */
export function placementCause(pod: Pod): PodCause | undefined {
  const condition = pod.status?.conditions?.find((one) => one.type === "PodScheduled" && one.status === "False");
  if (condition === undefined || !isActive(pod)) return undefined;
  const name = pod.metadata.name;
  if (condition.reason === "SchedulingGated") {
    const gates = pod.spec?.schedulingGates?.map((gate) => gate.name).join(", ") ?? "";
    return {
      category: "Gated",
      message: `Pod ${name} waits behind its scheduling gates${gates === "" ? "" : ` ${gates}`}: ${condition.message ?? ""}`,
      hint: "The controller that set a gate has to take it off; ask whoever runs it.",
    };
  }
  if (condition.reason !== "Unschedulable") return undefined;
  // What follows is about preemption, and repeats the count of nodes.
  const words = (condition.message ?? "").replace(/[.,]? *(no new claims to deallocate, )?preemption: .*$/s, ".");
  const { category, hint } = filters.find((filter) => filter.words.test(words)) ?? {
    category: "Unschedulable.Resources" as const,
    hint: resources,
  };
  return { category, message: `Pod ${name}${requestsOf(pod)} fits no node: ${words}`, hint };
}

function requestsOf({ spec }: Pod): string {
  const asked = (spec?.containers ?? []).flatMap(({ name, resources }) => {
    const requests = Object.entries(resources?.requests ?? {}).map(([resource, quantity]) => `${resource} ${quantity}`);
    return requests.length === 0 ? [] : [`${requests.join(", ")} for ${name}`];
  });
  return asked.length === 0 ? "" : ` (asks for ${asked.join("; ")})`;
}
