import { useQuery } from "@tanstack/react-query";
import { useEffect, useRef, useState } from "react";
import { Link, useLocation, useNavigate, useSearchParams } from "react-router";
import { api, read, type Job } from "../../api/client";
import { percent, plural, printable, span } from "../../lib/format";
import { useMay } from "../../lib/session";
import { Bar, Button, Empty, Loading, PageHead, Problem, State, Time } from "../../ui/basics";
import { hasEnded, kindName, KINDS, shareOf, STATES, useJobs, whoOf, type Filters, type JobState } from "./data";

/** The newest jobs. The filters and the place in the list are in the address. */
export function JobListPage() {
  const [search, setSearch] = useSearchParams();
  const filters = filtersOf(search);
  const jobs = useJobs(filters);
  const may = useMay("jobs");
  const filtered = Boolean(filters.state || filters.kind || filters.collection);
  const change = (name: string, value: string) => {
    const next = new URLSearchParams(search);
    if (value) next.set(name, value);
    else next.delete(name);
    next.delete("after");
    setSearch(next, { replace: true });
  };
  return (
    <>
      <PageHead title="Jobs" lead="Work that runs in the background: ingestion, re-indexing, evaluations, pipelines.">
        {may && (
          <Link className="button primary" to="/jobs/new">
            Start a job
          </Link>
        )}
      </PageHead>
      <section className="panel" aria-label="Jobs" aria-busy={jobs.isPlaceholderData}>
        <div className="toolbar">
          <select aria-label="State" value={filters.state ?? ""} onChange={(event) => change("state", event.target.value)}>
            <option value="">Any state</option>
            {STATES.map((state) => (
              <option key={state} value={state}>
                {state[0]?.toUpperCase() + state.slice(1)}
              </option>
            ))}
          </select>
          <select aria-label="Kind" value={filters.kind ?? ""} onChange={(event) => change("kind", event.target.value)}>
            <option value="">Any kind</option>
            {Object.entries(KINDS).map(([kind, name]) => (
              <option key={kind} value={kind}>
                {name}
              </option>
            ))}
          </select>
          <CollectionFilter value={filters.collection ?? ""} onChange={(value) => change("collection", value)} />
          <label className="check">
            <input type="checkbox" checked={filters.steps} onChange={(event) => change("steps", event.target.checked ? "shown" : "")} />
            Steps of pipelines
          </label>
          {filtered && (
            <Button kind="quiet" icon="close" onClick={() => setSearch({}, { replace: true })}>
              Clear
            </Button>
          )}
        </div>
        {jobs.isPending ? (
          <Loading label="Reading jobs" />
        ) : jobs.error && !jobs.data ? (
          <div className="padded">
            <Problem error={jobs.error} retry={() => void jobs.refetch()} />
            {filters.after && (
              <p>
                <Link to="/jobs">Go to the newest jobs</Link>
              </p>
            )}
          </div>
        ) : jobs.data && jobs.data.jobs.length > 0 ? (
          <>
            {jobs.error && <Problem error={jobs.error} retry={() => void jobs.refetch()} />}
            <JobTable jobs={jobs.data.jobs} />
            <Pager after={filters.after} next={jobs.data.next ?? null} />
          </>
        ) : filtered || filters.after ? (
          <Empty icon="search" title="No job matches">
            <p>Change the filters, or clear them to see all jobs.</p>
          </Empty>
        ) : (
          <Empty icon="jobs" title="There are no jobs yet">
            <p>Each upload, re-index, evaluation and pipeline becomes a job here, and stays for 30 days.</p>
            {may && (
              <Link className="button primary" to="/jobs/new">
                Start a job
              </Link>
            )}
          </Empty>
        )}
      </section>
    </>
  );
}

function filtersOf(search: URLSearchParams): Filters {
  const state = search.get("state") as JobState | null;
  const kind = search.get("kind");
  const collection = search.get("collection");
  const after = search.get("after");
  return {
    steps: search.get("steps") !== null,
    ...(state && STATES.includes(state) ? { state } : {}),
    ...(kind ? { kind } : {}),
    ...(collection ? { collection } : {}),
    ...(after ? { after } : {}),
  };
}

export function JobTable({ jobs }: { jobs: Job[] }) {
  return (
    <div className="scroller">
      <table className="jobs-table stacked">
        <thead>
          <tr>
            <th scope="col">Job</th>
            <th scope="col">State</th>
            <th scope="col">Progress</th>
            <th scope="col">Created</th>
            <th scope="col">Took</th>
            <th scope="col">Started by</th>
          </tr>
        </thead>
        <tbody>
          {jobs.map((job) => (
            <JobRow key={job.id} job={job} />
          ))}
        </tbody>
      </table>
    </div>
  );
}

function JobRow({ job }: { job: Job }) {
  const parent = job.options?.parent;
  return (
    <tr>
      <td className="job-what">
        <Link to={`/jobs/${job.id}`}>{kindName(job.kind)}</Link> <span dir="auto">{job.collection || job.name}</span>
        <span className="job-id faint mono">{job.id}</span>
      </td>
      <td className="nowrap">
        <State state={job.cancel_requested && !hasEnded(job) ? "cancelling" : (job.state ?? "queued")} />
      </td>
      <td className="job-now">
        <Progress job={job} />
      </td>
      <td className="nowrap">
        <Time at={job.created_at} />
      </td>
      <td className="nowrap">{tookOf(job)}</td>
      <td className="who-cell" dir="auto">
        {parent ? <Link to={`/jobs/${parent}`}>its pipeline</Link> : whoOf(job) || <span className="faint">–</span>}
      </td>
    </tr>
  );
}

/** How far a job is, and in a few words where it is or why it ended. */
export function Progress({ job }: { job: Job }) {
  const share = shareOf(job);
  const words = printable(job.error ? job.error.detail || job.error.title : job.progress?.message || foundBy(job));
  const running = job.state === "running";
  return (
    <>
      {running && share !== null && (
        <span className="nowrap">
          <Bar share={share} label={`Progress of ${job.id}`} /> <span className="faint">{percent(share)}</span>
        </span>
      )}
      {words ? (
        <span className={`job-words ${job.error ? "bad" : ""}`} dir="auto" title={words}>
          {words}
        </span>
      ) : (
        !running && job.progress?.documents ? (
          <span className="job-words faint">{documentsOf(job)}</span>
        ) : null
      )}
    </>
  );
}

/** The figures of an evaluation that people look at first. */
function foundBy(job: Job): string {
  if (job.kind !== "evaluate" || job.state !== "succeeded") return "";
  const { recall_at_5: recall, ndcg_at_10: ndcg, questions } = (job.outputs ?? {}) as Record<string, number | undefined>;
  const parts = [
    recall === undefined ? "" : `recall@5 ${recall.toFixed(3)}`,
    ndcg === undefined ? "" : `nDCG@10 ${ndcg.toFixed(3)}`,
    questions === undefined ? "" : plural(questions, "question"),
  ];
  return parts.filter(Boolean).join(", ");
}

export function documentsOf(job: Job): string {
  const { documents = 0, indexed = 0, skipped = 0, deleted = 0, failed = 0, warned = 0 } = job.progress ?? {};
  const parts: [number, string][] = [
    [indexed, "indexed"],
    [skipped, "skipped"],
    [deleted, "deleted"],
    [failed, "failed"],
    [warned, "with warnings"],
  ];
  const said = parts.filter(([value]) => value > 0).map(([value, name]) => `${value.toLocaleString("en")} ${name}`);
  return `${documents.toLocaleString("en")} documents${said.length > 0 ? `: ${said.join(", ")}` : ""}`;
}

export function tookOf(job: Job): string {
  if (!job.started_at) return "–";
  return span(Math.max(0, (job.finished_at ?? Date.now() / 1000) - job.started_at));
}

/** The way back is remembered with the page: the server only knows what comes next. */
function Pager({ after, next }: { after: string | undefined; next: string | null }) {
  const navigate = useNavigate();
  const location = useLocation();
  const [search] = useSearchParams();
  const trail = (location.state as { trail?: string[] } | null)?.trail ?? [];
  if (!after && next === null) return null;
  const go = (to: string, way: string[]) => {
    const params = new URLSearchParams(search);
    if (to) params.set("after", to);
    else params.delete("after");
    void navigate({ search: params.toString() }, { state: { trail: way } });
    document.getElementById("main")?.scrollIntoView();
  };
  return (
    <nav className="pager" aria-label="Pages of jobs">
      <Button disabled={!after} onClick={() => go("", [])}>
        Newest
      </Button>
      <Button disabled={!after} onClick={() => go(trail.at(-1) ?? "", trail.slice(0, -1))}>
        Newer
      </Button>
      <Button disabled={next === null} onClick={() => next !== null && go(next, [...trail, after ?? ""])}>
        Older
      </Button>
    </nav>
  );
}

function CollectionFilter({ value, onChange }: { value: string; onChange: (value: string) => void }) {
  const [text, setText] = useState(value);
  const names = useCollectionNames();
  const sent = useRef(value);
  const send = (chosen: string) => {
    sent.current = chosen;
    if (chosen !== value) onChange(chosen);
  };
  // What is cleared elsewhere is cleared here; what is being written stays.
  useEffect(() => {
    if (value !== sent.current) setText((sent.current = value));
  }, [value]);
  useEffect(() => {
    if (text.trim() === sent.current) return;
    const timer = setTimeout(() => send(text.trim()), names.includes(text) ? 0 : 600);
    return () => clearTimeout(timer);
  }, [text]);
  return (
    <>
      <input
        aria-label="Collection"
        placeholder="Any collection"
        list="collections-of-jobs"
        value={text}
        maxLength={48}
        onChange={(event) => setText(event.target.value)}
        onKeyDown={(event) => event.key === "Enter" && send(text.trim())}
      />
      <datalist id="collections-of-jobs">
        {names.map((name) => (
          <option key={name} value={name} />
        ))}
      </datalist>
    </>
  );
}

export function useCollectionNames(): string[] {
  const found = useQuery({
    queryKey: ["collections", "names"],
    queryFn: ({ signal }) => read(api.GET("/v1/collections", { params: { query: { limit: 100 } }, signal })),
    staleTime: 30_000,
  });
  return found.data?.collections.map((collection) => collection.name) ?? [];
}
