/** A refusal as kubectl reads it. Reasons: k8s.io/apimachinery/pkg/apis/meta/v1 StatusReason. */
export class Refusal extends Error {
  readonly status: number;
  readonly reason: string;

  constructor(status: number, reason: string, message: string) {
    super(message);
    this.name = "Refusal";
    this.status = status;
    this.reason = reason;
  }
}

export const notFound = (resource: string, name: string) =>
  new Refusal(404, "NotFound", `${resource} "${name}" not found`);
export const badRequest = (message: string) => new Refusal(400, "BadRequest", message);
export const noSuchPath = () => new Refusal(404, "NotFound", "the server could not find the requested resource");
