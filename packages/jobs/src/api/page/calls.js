// What the page asks this server for.

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** An answer; rejects with an error that has `status` when the server refuses. */
export async function ask(path, options = {}) {
  const response = await fetch(path, {
    ...options,
    headers: { authorization: `Bearer ${sessionStorage.getItem("token") ?? ""}`, ...options.headers },
  });
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  throw new Refused(response.status, said.error?.message ?? `The server answered with ${response.status}`);
}

export const read = async (path, options) => (await ask(path, options)).json();

export const post = (path, body) =>
  read(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

/** https://html.spec.whatwg.org/multipage/server-sent-events.html, by fetch, which can send the token in a header. */
export async function* serverEvents(body) {
  let rest = "";
  for await (const piece of body.pipeThrough(new TextDecoderStream())) {
    const blocks = (rest + piece).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s, 2)));
      if (fields.data !== undefined) yield { type: fields.event, id: fields.id, data: JSON.parse(fields.data) };
    }
  }
}
