import { type ApiRequest, type ApiServer, Fault } from "@kube-connector/core";

/** An API server whose answers a test writes down: for what a real one does not do on demand, errors above all. */
export interface ScriptedApi extends ApiServer {
  /** What was asked so far, as `METHOD path`. */
  asked: string[];
  /** Sets the answer to `METHOD path`: called with the request, its value is the answer, what it throws the refusal. */
  on(request: string, answer: (request: ApiRequest) => unknown): void;
  /** How often that was asked. */
  count(request: string): number;
}

export function createScriptedApi(): ScriptedApi {
  const answers = new Map<string, (request: ApiRequest) => unknown>();
  const asked: string[] = [];
  return {
    asked,
    on: (request, answer) => answers.set(request, answer),
    count: (request) => asked.filter((one) => one === request).length,
    async request<T>(method: string, path: string, options: ApiRequest = {}): Promise<T> {
      asked.push(`${method} ${path}`);
      const answer = answers.get(`${method} ${path}`);
      if (answer === undefined) throw new Fault("unavailable", `${method} ${path}: connection refused`);
      return (await answer(options)) as T;
    },
    open: () => Promise.reject(new Fault("unavailable", "This API server has no streams")),
    stop: () => Promise.resolve(),
  };
}
