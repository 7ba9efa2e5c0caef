/** The paths of the API that this room uses. */
export const paths = {
  jobs: (namespace: string) => `/apis/batch/v1/namespaces/${namespace}/jobs`,
  job: (namespace: string, name: string) => `/apis/batch/v1/namespaces/${namespace}/jobs/${name}`,
  cronJobs: (namespace: string) => `/apis/batch/v1/namespaces/${namespace}/cronjobs`,
  cronJob: (namespace: string, name: string) => `/apis/batch/v1/namespaces/${namespace}/cronjobs/${name}`,
  pods: (namespace: string) => `/api/v1/namespaces/${namespace}/pods`,
  pod: (namespace: string, name: string) => `/api/v1/namespaces/${namespace}/pods/${name}`,
  events: (namespace: string) => `/api/v1/namespaces/${namespace}/events`,
  secrets: (namespace: string) => `/api/v1/namespaces/${namespace}/secrets`,
  secret: (namespace: string, name: string) => `/api/v1/namespaces/${namespace}/secrets/${name}`,
  workloads: (namespace: string) => `/apis/kueue.x-k8s.io/v1beta1/namespaces/${namespace}/workloads`,
} as const;
