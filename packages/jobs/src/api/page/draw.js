// What the page shows: runs as rows, one run, its log.

export const byId = (id) => document.getElementById(id);
/** Lines of a live log that are kept on the screen. */
const mostLines = 10_000;
const ended = new Set(["Succeeded", "Failed", "TimedOut", "Cancelled", "Lost"]);

function element(name, text, ...classes) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  made.classList.add(...classes);
  return made;
}

/** Reasons that say no more than the state. */
const plain = ["", "CompletionsReached", "JobSuspended"];

function stateOf({ state, reason }) {
  const isPlain = reason === state || plain.includes(reason);
  return element("span", isPlain ? state : `${state} · ${reason}`, "state", state);
}

const done = ({ progress: { succeeded, completions } }) =>
  completions === null ? `${succeeded} done` : `${succeeded} of ${completions}`;

const time = (text) => (text === undefined ? "" : new Date(text).toLocaleString());

/** Rows that stay keep their elements, so that a refresh takes no focus away. */
export function drawRows(runs) {
  const rows = byId("rows");
  const before = new Map([...rows.children].map((row) => [row.dataset.run, row]));
  const wanted = runs.map((run) => {
    const row = before.get(run.id) ?? newRow(run);
    const [state, , , , count] = row.children;
    if (row.dataset.version !== String(run.version)) {
      row.dataset.version = run.version;
      state.replaceChildren(stateOf(run));
      count.textContent = done(run);
    }
    return row;
  });
  for (const row of before.values()) if (!wanted.includes(row)) row.remove();
  wanted.forEach((row, at) => {
    if (rows.children[at] !== row) rows.insertBefore(row, rows.children[at] ?? null);
  });
}

function newRow(run) {
  const row = element("tr");
  row.dataset.run = run.id;
  const link = element("a", run.name);
  link.href = `#${run.id}`;
  const name = element("td");
  name.append(link);
  row.append(
    element("td"),
    name,
    element("td", run.connector, "wide"),
    element("td", run.namespace, "wide"),
    element("td"),
    element("td", time(run.createdAt)),
  );
  return row;
}

export function addPhase({ type, data: { at, message } }) {
  const phases = byId("phases");
  // Why a state is what it is, its diagnosis tells anew.
  const [state, reason = ""] = message.split(": ")[0].split(/ \(|\)/);
  const words = type !== "state" ? message : plain.includes(reason) ? state : `${state} (${reason})`;
  if (phases.lastElementChild?.lastElementChild.textContent === words) return;
  const item = element("li");
  const when = element("time", new Date(at).toLocaleTimeString());
  when.dateTime = at;
  item.title = message;
  item.append(when, element("span", words));
  phases.append(item);
}

export function drawRun(run, monitorUrl) {
  byId("run-name").textContent = run.name;
  byId("run-state").replaceWith(Object.assign(stateOf(run), { id: "run-state" }));
  byId("run-done").textContent = [
    run.progress.completions === null ? done(run) : `${done(run)} done`,
    ...(run.progress.active > 0 && !ended.has(run.state) ? [`${run.progress.active} active`] : []),
    ...(run.progress.failed > 0 ? [`${run.progress.failed} failed`] : []),
    ...(run.stale ? ["the cluster cannot be reached at the moment"] : []),
  ].join(", ");
  const { diagnosis, state } = run;
  // Of what went well, the Job controller's own words say nothing more.
  const message = run.message?.startsWith("Reached expected number") ? undefined : run.message;
  const why = byId("why");
  why.textContent = diagnosis === undefined ? (message ?? "") : `${diagnosis.message}. ${diagnosis.hint}`;
  why.hidden = why.textContent === "";
  why.classList.toggle("bad", ["Failed", "TimedOut", "Lost"].includes(state));
  const isOver = ended.has(state);
  const isIdle = isOver || run.cancel !== undefined || state === "Deleting";
  const isSuspended = run.suspend ?? state === "Suspended";
  const focused = document.activeElement;
  byId("suspend").hidden = isIdle || isSuspended || ["Queued", "Submitting"].includes(state);
  byId("resume").hidden = isIdle || !isSuspended;
  byId("cancel").hidden = isIdle;
  byId("retry").hidden = !isOver;
  byId("retry-failed").hidden = !isOver || run.attempts.at(-1)?.failedIndexes === undefined;
  // Whoever has just pressed a button that goes away is not sent back to the top of the page.
  if (focused.closest("#actions") !== null && focused.hidden) byId("run-name").focus();
  const monitor = byId("monitor");
  monitor.hidden = monitorUrl === undefined || !/^https?:/.test(monitorUrl);
  if (!monitor.hidden) monitor.href = monitorUrl;
  const facts = {
    Run: run.id,
    Connector: run.connector,
    Namespace: run.namespace,
    Job: run.attempts.at(-1)?.job ?? "",
    Attempt: run.attempts.length > 1 ? String(run.attempts.length) : "",
    Created: time(run.createdAt),
    Started: time(run.startedAt),
    Ended: time(run.endedAt),
    Source:
      run.source === undefined ? "" : `${run.source.kind} ${run.source.namespace}/${run.source.name} (${run.source.used})`,
    "Retry of": run.retryOf ?? "",
    "Clean-up": isOver ? [run.cleanup.state, run.cleanup.problem].filter(Boolean).join(": ") : "",
    Log: run.log === undefined ? "" : `${run.log.lines} lines, ${run.log.gaps} gaps`,
    ...Object.fromEntries(Object.entries(run.outputs ?? {}).map(([name, value]) => [`Output ${name}`, value])),
  };
  byId("facts").replaceChildren(
    ...Object.entries(facts)
      .filter(([, value]) => value !== "")
      .flatMap(([name, value]) => [element("dt", name), element("dd", value)]),
  );
  const exits = run.attempts.flatMap((attempt) => attempt.exits);
  byId("exits").hidden = exits.length === 0;
  byId("exit-rows").replaceChildren(
    ...exits.map((exit) => {
      const row = element("tr");
      const cells = [exit.pod, exit.container, exit.exitCode, exit.reason ?? "", exit.message ?? ""];
      row.append(...cells.map((cell) => element("td", String(cell))));
      return row;
    }),
  );
}

/** Colours and other control characters of terminals. */
const controls = new RegExp(
  String.raw`\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|[\0-\x08\x0b-\x1f\x7f-\x9f]`,
  "g",
);

const two = (number) => String(number).padStart(2, "0");

/** As all times of the page are, with milliseconds; what a log file has is UTC. Intl would take longer than all the rest. */
function localTime(stamp) {
  const at = new Date(stamp);
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${stamp.slice(20, 23)}`;
}

export function drawLines(lines) {
  const made = document.createDocumentFragment();
  for (const line of lines) {
    const match = /^(\S+) \[([^\]]+)\]([ !])(.*)$/s.exec(line);
    if (match === null) continue;
    const [, stamp, place, sign, words] = match;
    const row = element("div", undefined, ...(sign === "!" ? ["mark"] : []));
    const where = element("span", `${localTime(stamp)} [${place}]`, "where");
    where.title = stamp;
    row.append(where, `${sign}${words.replaceAll(controls, "")}`);
    made.append(row);
  }
  return made;
}

/** Of a live log, not on the screen yet. */
let waiting = [];

export function clearLog() {
  waiting = [];
  byId("log").replaceChildren();
  byId("dropped").hidden = true;
}

/** As many at a time as come between two frames, so that a log is drawn as fast as it arrives. */
export function addLines(lines) {
  if (waiting.length === 0) requestAnimationFrame(drawWaiting);
  // The file's first and last line are no rows: counted, they would leave a row of before what was dropped on the screen.
  waiting = waiting.concat(lines.filter((line) => !line.startsWith("#")));
  // No frame comes while the tab is hidden.
  if (waiting.length > 2 * mostLines) drop(waiting.splice(0, waiting.length - mostLines));
}

function drop({ length }) {
  if (length === 0) return;
  const dropped = byId("dropped");
  dropped.textContent = `The last ${mostLines.toLocaleString()} lines are shown; Save has all of them.`;
  dropped.hidden = false;
}

function drawWaiting() {
  if (waiting.length === 0) return;
  const log = byId("log");
  const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
  drop(waiting.splice(0, waiting.length - mostLines));
  log.append(drawLines(waiting));
  waiting = [];
  const excess = [...log.children].slice(0, Math.max(0, log.childElementCount - mostLines));
  for (const row of excess) row.remove();
  drop(excess);
  if (atEnd) log.scrollTop = log.scrollHeight;
}
