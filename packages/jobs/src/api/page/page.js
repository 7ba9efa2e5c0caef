// The page: a list of runs, and one run with what happens to it and its log as it comes. The token is kept for this tab only
// and is shown to this server in a header, never in an address.
import { ask, post, read, serverEvents } from "./calls.js";
import { addLines, addPhase, byId, clearLog, drawLines, drawRows, drawRun } from "./draw.js";

const notice = byId("notice");
/** Bytes of a complete log that are read at once. */
const chunk = 524_288;
const refreshEvery = 3000;
const states =
  "Queued Submitting Submitted Suspending Suspended Pending Running Backoff Failing Succeeding Deleting Cancelling Succeeded Failed TimedOut Cancelled Lost";

let shown = new AbortController();

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

function show(view, title) {
  shown.abort();
  shown = new AbortController();
  for (const id of ["enter", "runs", "run"]) byId(id).hidden = id !== view;
  byId("leave").hidden = view === "enter";
  notice.textContent = "";
  document.title = title;
  return shown.signal;
}

function failed(error) {
  if (error.name === "AbortError") return;
  if (error.status === 401) {
    sessionStorage.removeItem("token");
    enter();
  }
  notice.textContent = wordsOf(error);
}

const wordsOf = ({ status, message }) => (status === undefined ? "The server cannot be reached" : message);

/** Does it until it is done; what a person may mend is thrown, what time may mend is tried again. */
async function persistently(work, signal) {
  while (!signal.aborted) {
    try {
      const result = await work();
      if (notice.dataset.broken !== undefined) notice.textContent = "";
      delete notice.dataset.broken;
      return result;
    } catch (error) {
      if (signal.aborted || (error.status !== undefined && error.status < 500)) throw error;
      notice.textContent = `${wordsOf(error)}; it is tried again.`;
      notice.dataset.broken = "";
      await pause(1000);
    }
  }
  throw signal.reason;
}

function enter() {
  show("enter", "Jobs");
  byId("token").focus();
}

// The list.

async function listRuns() {
  const signal = show("runs", "Jobs");
  const filter = byId("filter");
  const { connectors } = await persistently(() => read("/v1/connectors", { signal }), signal);
  filter.elements.connector.replaceChildren(
    new Option("any", ""),
    ...connectors.map(({ name }) => new Option(name, name, false, name === filter.elements.connector.value)),
  );
  /** Where each page begins, from the newest to the one that is shown. */
  let cursors = [undefined];
  let next;
  let asked = 0;
  const turnTo = (pages) => {
    cursors = pages;
    return load()
      .then(() => scrollTo(0, 0))
      .catch(failed);
  };
  byId("older").onclick = () => turnTo([...cursors, next]);
  byId("newer").onclick = () => turnTo(cursors.slice(0, -1));
  filter.oninput = () => turnTo([undefined]);
  filter.onsubmit = (event) => event.preventDefault();

  async function load() {
    const turn = ++asked;
    const wanted = [...new FormData(filter)].filter(([, value]) => value !== "");
    const cursor = cursors.at(-1);
    const query = new URLSearchParams(cursor === undefined ? wanted : [...wanted, ["cursor", cursor]]);
    const found = await read(`/v1/runs?${query}`, { signal });
    // Another answer may have been asked for since.
    if (turn !== asked) return;
    next = found.next;
    drawRows(found.runs);
    byId("list").hidden = found.runs.length === 0;
    byId("none").hidden = found.runs.length > 0;
    byId("none").textContent =
      wanted.length > 0 ? "There is no such run." : "There is no run yet. kube-connector jobs run, or POST /v1/runs, makes one.";
    byId("pages").hidden = cursors.length === 1 && next === undefined;
    byId("newer").disabled = cursors.length === 1;
    byId("older").disabled = next === undefined;
  }

  while (!signal.aborted) {
    if (!document.hidden) await persistently(load, signal);
    await pause(refreshEvery);
  }
}

// One run.

async function showRun(id) {
  const signal = show("run", "Run");
  byId("run").hidden = true;
  const log = byId("log");
  clearLog();
  byId("phases").replaceChildren();
  byId("earlier").hidden = true;
  byId("found").textContent = "";
  const search = byId("search");
  search.elements.words.value = "";
  const reset = search.querySelector("[type=reset]");
  reset.hidden = true;
  let searching = false;

  const load = async () => {
    const { run, monitorUrl } = await persistently(() => read(`/v1/runs/${id}`, { signal }), signal);
    drawRun(run, monitorUrl);
    return run;
  };
  const first = await load();
  document.title = `${first.name} · Jobs`;
  byId("run").hidden = false;
  byId("run-name").focus();
  const tell = (verb) => post(`/v1/runs/${id}/${verb}`, {}).then(load).catch(failed);
  askTwice(byId("cancel"), "Cancel", () => tell("cancel"));
  askTwice(byId("suspend"), "Suspend", () => tell("suspend"));
  byId("resume").onclick = () => tell("resume");
  const again = (failedIndexes) =>
    post(`/v1/runs/${id}/retry`, { failedIndexes })
      .then(({ run }) => {
        location.hash = run.id;
      })
      .catch(failed);
  byId("retry").onclick = () => again(false);
  byId("retry-failed").onclick = () => again(true);
  byId("save").onclick = () => save(id, `${first.name}-${id}.log`).catch(failed);
  search.onsubmit = (event) => {
    event.preventDefault();
    const words = search.elements.words.value;
    if (words === "") return search.reset();
    searching = true;
    reset.hidden = false;
    byId("earlier").hidden = true;
    return read(`/v1/runs/${id}/logs?${new URLSearchParams({ search: words })}`, { signal })
      .then(({ lines }) => {
        clearLog();
        log.append(drawLines(lines.map(({ line }) => line)));
        log.scrollTop = 0;
        byId("found").textContent =
          lines.length === 0 ? "No line has these words" : `${lines.length === 1000 ? "The first 1000" : lines.length} lines`;
      })
      .catch(failed);
  };
  search.onreset = () => {
    if (searching) showRun(id).catch(failed);
  };

  // A log that is complete is read from its end.
  const isComplete = first.log?.sha256 !== undefined;
  if (isComplete) await readBackwards(id, first.log.bytes, signal);
  await followRun(id, { isComplete, isSearching: () => searching, load, signal });
  // What is left in the cluster goes last.
  for (let tries = 0; tries < 60 && !signal.aborted; tries++) {
    if ((await load()).cleanup.state !== "Pending") return;
    await pause(1000);
  }
}

async function followRun(id, { isComplete, isSearching, load, signal }) {
  let last;
  await persistently(async () => {
    while (!signal.aborted) {
      const response = await ask(`/v1/runs/${id}/events${isComplete ? "?logs=false" : ""}`, {
        signal,
        headers: last === undefined ? {} : { "last-event-id": last },
      });
      if (response.status === 204) return;
      for await (const event of serverEvents(response.body)) {
        last = event.id;
        if (event.type === "log") {
          if (!isSearching()) addLines(event.data.lines);
          continue;
        }
        addPhase(event);
        if (!isComplete) await load();
        if (event.type === "end") return;
      }
      await pause(1000);
    }
  }, signal);
}

/** The last part of a complete log now, and one part before it whenever that is asked for. */
async function readBackwards(id, size, signal) {
  const log = byId("log");
  const earlier = byId("earlier");
  let start = size;
  /** What was read of a line whose beginning was not. */
  let cut = new Blob();
  const back = async () => {
    const end = start;
    start = Math.max(0, end - chunk);
    const response = await ask(`/v1/runs/${id}/logs`, { signal, headers: { range: `bytes=${start}-${end - 1}` } });
    const bytes = await new Blob([await response.blob(), cut]).bytes();
    // A part begins anywhere, also within a character.
    const first = start === 0 ? 0 : bytes.indexOf(0x0a) + 1;
    cut = new Blob([bytes.subarray(0, start > 0 && first === 0 ? bytes.length : first)]);
    const whole = start > 0 && first === 0 ? "" : new TextDecoder().decode(bytes.subarray(first));
    const before = log.scrollHeight;
    log.prepend(drawLines(whole.split("\n")));
    log.scrollTop += log.scrollHeight - before;
    earlier.hidden = start === 0;
  };
  earlier.onclick = () => back().catch(failed);
  if (size > 0) await back();
  log.scrollTop = log.scrollHeight;
}

/** The whole log as a file: a link could not show the token. */
async function save(id, name) {
  const response = await ask(`/v1/runs/${id}/logs`);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** A button that does it when it is pressed once more. */
function askTwice(button, words, work) {
  button.textContent = words;
  let sure = false;
  button.onclick = () => {
    if (sure) work();
    button.textContent = sure ? words : `${words}: sure?`;
    sure = !sure;
  };
  button.onblur = () => {
    sure = false;
    button.textContent = words;
  };
}

// Where we are is in the address' fragment: nothing, or a run's id.

function go() {
  if (sessionStorage.getItem("token") === null) return enter();
  const id = location.hash.slice(1);
  return (id === "" ? listRuns() : showRun(id)).catch(failed);
}

byId("filter").elements.state.append(...states.split(" ").map((state) => new Option(state, state)));
byId("token-form").onsubmit = (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", byId("token").value.trim());
  byId("token").value = "";
  go();
};
byId("leave").onclick = () => {
  sessionStorage.removeItem("token");
  enter();
};
addEventListener("hashchange", go);
go();
