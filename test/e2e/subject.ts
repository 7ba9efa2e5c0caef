import type { Target } from "./cluster.ts";
import { apply, kubectlOk } from "./kubectl.ts";

/** A namespace `work` in the target with a pod `subject` that serves a page, echoes its input, and runs what it is told. */
export async function startSubject(at: Target): Promise<void> {
  const { kubeconfig } = at;
  const serve = "mkdir -p /tmp/www; echo served > /tmp/www/index.html; httpd -p 8080 -h /tmp/www; cat";
  await apply(
    [
      { apiVersion: "v1", kind: "Namespace", metadata: { name: "work" } },
      {
        apiVersion: "v1",
        kind: "Pod",
        metadata: { name: "subject", namespace: "work" },
        spec: {
          terminationGracePeriodSeconds: 0,
          automountServiceAccountToken: false,
          containers: [
            {
              name: "main",
              image: "localhost/tools:1",
              imagePullPolicy: "Never",
              stdin: true,
              command: ["sh", "-c", serve],
            },
          ],
        },
      },
    ],
    { kubeconfig },
  );
  await kubectlOk(["-n", "work", "wait", "--for=condition=Ready", "pod/subject", "--timeout=90s"], {
    kubeconfig,
    timeout: 100_000,
  });
}
