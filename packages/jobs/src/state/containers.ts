import type { Pod, PodContainer } from "../kube.ts";
import type { ContainerExit, Diagnosis } from "../run.ts";
import { exitsOf } from "./exits.ts";
import { containerStatuses, isActive } from "./state.ts";

// What containers say of themselves: why one waits, and how one failed.

export type PodCause = Omit<Diagnosis, "pod">;

const imageReasons = [
  "ErrImagePull",
  "ImagePullBackOff",
  "ErrImageNeverPull",
  "ImageInspectError",
  "RegistryUnavailable",
  "SignatureValidationFailed",
];
const startReasons = [
  "RunContainerError",
  "CreateContainerError",
  "PreCreateHookError",
  "PreStartHookError",
  "PostStartHookError",
];

/** Why a container of the pod cannot start. */
export function waitingCause(pod: Pod): PodCause | undefined {
  if (!isActive(pod)) return undefined;
  for (const status of containerStatuses(pod)) {
    const { reason = "", message = "" } = status.state?.waiting ?? {};
    const image = specOf(pod, status.name)?.image ?? status.image ?? "";
    const container = status.name;
    if (reason === "InvalidImageName")
      return {
        category: "InvalidImage",
        container,
        message: `The image of container ${container}, "${image}", is no valid name: ${message}`,
        hint: "Correct the name: [REGISTRY/]NAME[:TAG] in lower-case letters.",
      };
    if (imageReasons.includes(reason))
      return {
        category: "ImagePull",
        container,
        message: `The image of container ${container}, "${image}", cannot be pulled: ${message === "" ? reason : message}`,
        hint: pullHint(`${reason} ${message}`),
      };
    if (reason === "CreateContainerConfigError")
      return {
        category: "ConfigMissing",
        container,
        message: `Container ${container} cannot be set up: ${message}`,
        hint: configHint(message),
      };
    if (startReasons.includes(reason)) return startError(container, message === "" ? reason : message);
  }
  return undefined;
}

function pullHint(words: string): string {
  if (/ErrImageNeverPull/.test(words)) return "Put the image on the nodes, or change imagePullPolicy from Never.";
  if (/unauthorized|authorization failed|denied|forbidden|no basic auth|\b40[13]\b/i.test(words))
    return "Give the pods an imagePullSecret for that registry, by patch or with their service account; or the image is not there.";
  if (/no match for platform|no matching manifest/i.test(words))
    return "The image is not built for the processor of that node: build it for that, or choose other nodes.";
  if (/toomanyrequests|too many requests|\b429\b/i.test(words))
    return "The registry limits pulls: wait, log in to it, or use a mirror.";
  if (/not found|manifest unknown|does not exist/i.test(words))
    return "Check the image's name and tag in the registry.";
  if (/no such host|i\/o timeout|connection refused|deadline exceeded|x509|TLS/i.test(words))
    return "The node cannot reach the registry: check its name, the network, and its certificate.";
  return "Check the image's name and tag, and whether the nodes may pull from that registry.";
}

function configHint(message: string): string {
  if (/couldn't find key/.test(message)) return "Add that key, or correct it in the variable's valueFrom.";
  if (/(secret|configmap) "[^"]+" not found/.test(message))
    return "Create it in the run's namespace, or correct its name; optional: true lets the container start without it.";
  if (/runAsNonRoot/.test(message))
    return "Use an image that has a user of its own, or set securityContext.runAsUser by patch.";
  return "Correct what the container refers to.";
}

function startError(container: string, words: string): PodCause {
  return {
    category: "StartError",
    container,
    message: `Container ${container} cannot be started: ${words}`,
    hint: /executable file not found|no such file or directory/.test(words)
      ? "The command is not in the image: check command and PATH; a script needs its interpreter in the image."
      : /permission denied/.test(words)
        ? "The command may not be executed: check its mode in the image, and the user that the container runs as."
        : "Check command, args, working directory and security context.",
  };
}

/** The first container that failed, of all pods; ends that a deletion of the pod brought are nobody's fault. */
export function failureOf(pods: readonly Pod[]): Diagnosis | undefined {
  const failures = pods.flatMap((pod) =>
    exitsOf([pod])
      .filter(({ exitCode }) => exitCode !== 0)
      .filter(({ exitCode }) => pod.metadata.deletionTimestamp === undefined || (exitCode !== 137 && exitCode !== 143))
      .filter(({ container }) => !isSidecar(pod, container))
      .map((exit) => ({ pod, exit })),
  );
  const first = failures.sort((a, b) => (a.exit.finishedAt ?? "").localeCompare(b.exit.finishedAt ?? ""))[0];
  if (first === undefined) return undefined;
  return { ...causeOf(first.pod, first.exit), pod: first.pod.metadata.name, container: first.exit.container };
}

function causeOf(pod: Pod, exit: ContainerExit): PodCause {
  const { container, exitCode, reason, message = "" } = exit;
  const said = message.trim() === "" ? "" : `: ${message.trim().slice(0, 300)}`;
  const name = `Container ${container} of pod ${pod.metadata.name}`;
  if (reason === "StartError" || reason === "ContainerCannotRun") return startError(container, message.trim());
  if (reason === "OOMKilled") {
    const limit = specOf(pod, container)?.resources?.limits?.memory;
    return {
      category: "OutOfMemory",
      message: `${name} was killed because it needed more memory than ${limit === undefined ? "there was; it has no limit of its own" : `its limit of ${limit}`}`,
      hint: `Raise resources.limits.memory${limit === undefined ? "" : ` above ${limit}`}, or let the program need less.`,
    };
  }
  const status = containerStatuses(pod).find((one) => one.name === container);
  if (status?.state?.waiting?.reason === "CrashLoopBackOff")
    return {
      category: "CrashLoop",
      message: `${name} ended ${status.restartCount + 1} times, first seen with ${words(exitCode)}${said}; ${status.state.waiting.message ?? "it is started again after a while"}`,
      hint: `${exitHint(exitCode)} restartPolicy Never makes each try a pod of its own, with its own log.`,
    };
  return { category: "AppExit", message: `${name} ended with ${words(exitCode)}${said}`, hint: exitHint(exitCode) };
}

const signals: Record<number, string> = {
  129: "SIGHUP",
  130: "SIGINT",
  131: "SIGQUIT",
  132: "SIGILL",
  134: "SIGABRT",
  135: "SIGBUS",
  136: "SIGFPE",
  137: "SIGKILL",
  139: "SIGSEGV",
  141: "SIGPIPE",
  143: "SIGTERM",
};

function words(exitCode: number): string {
  const signal = signals[exitCode];
  return `exit code ${exitCode}${signal === undefined ? "" : ` (${signal})`}`;
}

function exitHint(exitCode: number): string {
  switch (exitCode) {
    case 126:
      return "The shell found the command and may not execute it: check its mode.";
    case 127:
      return "The shell did not find the command: check its name and PATH in the image.";
    case 137:
      return "Something killed it, and the kubelet does not say that it was memory: a kill from inside, or a process of it out of memory. Read the end of the log.";
    case 143:
      return "It was asked to stop: by itself, or as its pod was stopped. Read the end of the log.";
    default:
      return "Read the end of the container's log for why the program failed.";
  }
}

function specOf({ spec }: Pod, name: string): PodContainer | undefined {
  return [...(spec?.containers ?? []), ...(spec?.initContainers ?? [])].find((one) => one.name === name);
}

function isSidecar({ spec }: Pod, name: string): boolean {
  return spec?.initContainers?.some((one) => one.name === name && one.restartPolicy === "Always") === true;
}
