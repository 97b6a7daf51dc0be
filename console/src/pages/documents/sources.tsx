import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useRef, useState, type FormEvent, type ReactNode } from "react";
import { Link } from "react-router";
import { api, read, type Job, type Schedule } from "../../api/client";
import { plural, printable } from "../../lib/format";
import { saveSchedule } from "../../lib/schedules";
import { useMay } from "../../lib/session";
import { useSubmitJob } from "../../lib/submit";
import { Bar, Button, Empty, Field, Loading, Problem, State, Time } from "../../ui/basics";
import { Dialog } from "../../ui/dialog";
import { paths } from "./queries";
import { metadataFault } from "./upload-panel";
import { shareOf, useJob } from "./versions";

const POLL_MS = 10_000;
const SHOWN = 10;

/** Where the documents of a collection come from: folders and buckets that schedules read, and what was read lately. */
export function SourcesView({ collection }: { collection: string }) {
  const may = { write: useMay("write"), jobs: useMay("jobs"), system: useMay("system") };
  const [open, setOpen] = useState(false);
  const [started, setStarted] = useState<string[]>([]);
  return (
    <>
      <Followed collection={collection}>
        {may.write && may.jobs && may.system && (
          <Button icon="plus" onClick={() => setOpen(true)}>
            Read a folder or a bucket
          </Button>
        )}
      </Followed>
      {started.map((job) => (
        <Started key={job} id={job} />
      ))}
      <Recent collection={collection} />
      {open && (
        <ReadSource collection={collection} onClose={() => setOpen(false)} onStarted={(job) => setStarted((before) => [job, ...before])} />
      )}
    </>
  );
}

interface Described {
  place: string;
  prune: boolean;
}

/** What an ingestion reads, from its spec or from a step of a pipeline, whose members may be expressions. */
function sourceOf(spec: unknown): Described | null {
  if (!isObject(spec)) return null;
  const prune = spec["prune"] === true;
  const source = spec["source"];
  if (!isObject(source)) return { place: "", prune };
  const text = (name: string) => (typeof source[name] === "string" ? source[name] : "");
  if (source["type"] === "s3") return { place: `s3://${[text("bucket"), text("prefix")].filter(Boolean).join("/")}`, prune };
  const pattern = text("pattern");
  return { place: pattern && pattern !== "**/*" ? `${text("path")} (${pattern})` : text("path"), prune };
}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null && !Array.isArray(value);

/** The sources that a schedule reads into a collection. */
function sourcesOf(schedule: Schedule, collection: string): Described[] {
  const { spec } = schedule;
  const jobs: unknown[] = spec.kind === "pipeline" ? Object.values(spec.steps).map((step) => step.job) : [spec];
  return jobs.flatMap((job) => {
    if (!isObject(job) || job["kind"] !== "ingest" || job["collection"] !== collection) return [];
    const found = sourceOf(job);
    return found ? [found] : [];
  });
}

function Followed({ collection, children }: { collection: string; children: ReactNode }) {
  const schedules = useQuery({
    queryKey: ["schedules"],
    queryFn: () => read(api.GET("/v1/schedules")).then((body) => body.schedules),
    refetchInterval: POLL_MS,
  });
  const followed = (schedules.data ?? [])
    .map((schedule) => ({ schedule, sources: sourcesOf(schedule, collection) }))
    .filter(({ sources }) => sources.length > 0);
  return (
    <section className="panel" aria-label="Followed sources">
      <div className="part-head padded">
        <h2>Followed sources</h2>
        {children}
      </div>
      {schedules.error && <Problem error={schedules.error} retry={() => void schedules.refetch()} />}
      {schedules.isPending && <Loading label="Reading the schedules" />}
      {schedules.isSuccess && followed.length === 0 && (
        <p className="faint padded">No schedule reads a folder or a bucket into this collection.</p>
      )}
      {followed.length > 0 && (
        <div className="scroller">
          <table>
            <thead>
              <tr>
                <th scope="col">Source</th>
                <th scope="col">Schedule</th>
                <th scope="col">Last time</th>
                <th scope="col" className="wide-only">Next time</th>
              </tr>
            </thead>
            <tbody>
              {followed.map(({ schedule, sources }) => (
                <tr key={schedule.name}>
                  <th scope="row" className="row-name name">
                    {sources.map((source, index) => (
                      <p key={index}>
                        <bdi>{printable(source.place)}</bdi>
                        {source.prune && <span className="faint"> deletes what is gone from the source</span>}
                      </p>
                    ))}
                  </th>
                  <td>
                    <Link to={`/jobs/schedules/${encodeURIComponent(schedule.name)}`}>{schedule.name}</Link>
                    <p className="faint">{schedule.every ? `every ${schedule.every}` : `${schedule.cron} ${schedule.zone ?? "UTC"}`}</p>
                  </td>
                  <td>{schedule.last_job ? <LastRun id={schedule.last_job} /> : <span className="faint">not yet</span>}</td>
                  <td className="wide-only nowrap">{schedule.paused ? <State state="paused" /> : <Time at={schedule.next_at} />}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}

function LastRun({ id }: { id: string }) {
  const job = useJob(id);
  if (job.error) return <span className="faint">no longer known</span>;
  if (!job.data) return null;
  return <Outcome job={job.data} />;
}

function Outcome({ job }: { job: Job }) {
  const share = job.state === "running" ? shareOf(job) : null;
  return (
    <div className="outcome">
      <Link to={paths.job(job.id)}>
        <State state={job.state ?? "queued"} />
      </Link>
      {share !== null && <Bar share={share} label="Progress" />}
      <span className="faint nowrap">
        <Time at={job.finished_at ?? job.started_at ?? job.created_at} />
      </span>
      <p className="faint">{told(job)}</p>
      {job.error && (
        <p className="bad" dir="auto">
          {printable(job.error.title ?? job.error.type ?? "")}
          {job.error.detail && `: ${printable(job.error.detail)}`}
        </p>
      )}
    </div>
  );
}

function told({ progress }: Job): string {
  if (!progress) return "";
  const parts = (
    [
      [progress.indexed, "indexed"],
      [progress.skipped, "unchanged"],
      [progress.deleted, "deleted"],
      [progress.failed, "failed"],
      [progress.warned, "read in part"],
    ] as const
  ).filter(([number]) => number);
  return parts.map(([number, what]) => `${number} ${what}`).join(", ");
}

/** A job that was just started here. */
function Started({ id }: { id: string }) {
  const job = useJob(id);
  return <div className="panel padded">{job.error ? <Problem error={job.error} /> : job.data ? <Outcome job={job.data} /> : <Loading />}</div>;
}

function Recent({ collection }: { collection: string }) {
  const jobs = useQuery({
    queryKey: ["ingest-jobs", collection],
    queryFn: () =>
      read(api.GET("/v1/jobs", { params: { query: { kind: "ingest", collection, steps: true, limit: SHOWN } } })).then((body) => body.jobs),
    refetchInterval: POLL_MS,
  });
  return (
    <section className="panel" aria-label="Recent ingestion">
      <div className="part-head padded">
        <h2>Recent ingestion</h2>
        <Link to="/jobs">All jobs</Link>
      </div>
      {jobs.error && <Problem error={jobs.error} retry={() => void jobs.refetch()} />}
      {jobs.isPending && <Loading label="Reading the jobs" />}
      {jobs.data?.length === 0 && <Empty icon="history" title="Nothing was ingested lately" />}
      {jobs.data && jobs.data.length > 0 && (
        <ul className="recent">
          {jobs.data.map((job) => (
            <li key={job.id}>
              <div className="name">
                <Origin job={job} />
                {job.options?.by && <span className="faint"> by {printable(job.options.by)}</span>}
              </div>
              <Outcome job={job} />
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

/** A job's spec never changes. */
function Origin({ job }: { job: Job }) {
  const spec = useQuery({
    queryKey: ["job-spec", job.id],
    queryFn: () => read(api.GET("/v1/jobs/{job}/spec", { params: { path: { job: job.id } } })),
    staleTime: Infinity,
  });
  const found = sourceOf(spec.data);
  if (found?.place) return <bdi>{printable(found.place)}</bdi>;
  const documents = job.progress?.documents ?? 0;
  return <>{documents > 0 ? `Upload of ${plural(documents, "document")}` : "Upload"}</>;
}

interface ReadSourceProps {
  collection: string;
  onClose: () => void;
  onStarted: (job: string) => void;
}

function ReadSource({ collection, onClose, onStarted }: ReadSourceProps) {
  const client = useQueryClient();
  const submitJob = useSubmitJob();
  const made = useRef<Schedule | null>(null);
  const [type, setType] = useState<"folder" | "s3">("folder");
  const [path, setPath] = useState("");
  const [pattern, setPattern] = useState("**/*");
  const [bucket, setBucket] = useState("");
  const [prefix, setPrefix] = useState("");
  const [endpoint, setEndpoint] = useState("");
  const [metadata, setMetadata] = useState("");
  const [prune, setPrune] = useState(false);
  const [every, setEvery] = useState("");
  const [name, setName] = useState("");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const fault = metadataFault(metadata);
  const ready = (type === "folder" ? path !== "" : bucket !== "") && fault === "" && (every === "" || name !== "");

  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    const source =
      type === "folder"
        ? { type: "folder" as const, path, pattern: pattern || "**/*" }
        : { type: "s3" as const, bucket, prefix, endpoint: endpoint || null };
    const spec = {
      kind: "ingest" as const,
      collection,
      source,
      prune,
      metadata: metadata.trim() ? (JSON.parse(metadata) as Record<string, string | number | boolean>) : {},
    };
    try {
      if (every === "") {
        onStarted((await submitJob({ spec })).id);
      } else {
        // Where only its first run could not be started, the next try is about the same schedule.
        const seen = made.current?.name === name ? made.current : null;
        made.current = await saveSchedule(name, { spec, every, overlap: "skip" }, seen);
        const { job } = await read(api.POST("/v1/schedules/{name}/trigger", { params: { path: { name } } }));
        onStarted(job.id);
        await client.invalidateQueries({ queryKey: ["schedules"] });
      }
      onClose();
    } catch (failure) {
      setError(failure);
      setBusy(false);
    }
  };
  return (
    <Dialog title="Read a folder or a bucket" onClose={onClose} busy={busy}>
      <form className="form" onSubmit={(event) => void submit(event)}>
        <Field label="From">
          <select value={type} onChange={(event) => setType(event.target.value === "s3" ? "s3" : "folder")}>
            <option value="folder">a folder of the scheduler's machine</option>
            <option value="s3">a bucket</option>
          </select>
        </Field>
        {type === "folder" ? (
          <>
            <Field label="Path" hint="Below one of the folders in SLUICE_SOURCE_ROOTS.">
              <input className="mono" value={path} required spellCheck={false} placeholder="/srv/docs" onChange={(event) => setPath(event.target.value)} />
            </Field>
            <Field label="Files" hint="A pattern; ** stands for any number of folders.">
              <input className="mono" value={pattern} spellCheck={false} onChange={(event) => setPattern(event.target.value)} />
            </Field>
          </>
        ) : (
          <>
            <div className="pair">
              <Field label="Bucket">
                <input className="mono" value={bucket} required spellCheck={false} onChange={(event) => setBucket(event.target.value)} />
              </Field>
              <Field label="Prefix">
                <input className="mono" value={prefix} spellCheck={false} onChange={(event) => setPrefix(event.target.value)} />
              </Field>
            </div>
            <Field label="Endpoint" hint="Left empty, AWS.">
              <input className="mono" value={endpoint} spellCheck={false} placeholder="https://s3.example.com" onChange={(event) => setEndpoint(event.target.value)} />
            </Field>
          </>
        )}
        <Field label="Metadata" hint="JSON that every document gets.">
          <input className="mono" value={metadata} spellCheck={false} aria-invalid={fault !== ""} onChange={(event) => setMetadata(event.target.value)} />
        </Field>
        {fault && <p className="hint bad" role="alert">{fault}</p>}
        <label className="check">
          <input type="checkbox" checked={prune} onChange={(event) => setPrune(event.target.checked)} />
          Delete documents that are gone from the source
        </label>
        <div className="pair">
          <Field label="Again every" hint="Left empty, only now.">
            <input value={every} spellCheck={false} placeholder="1h" onChange={(event) => setEvery(event.target.value)} />
          </Field>
          {every !== "" && (
            <Field label="Name of the schedule">
              <input value={name} required spellCheck={false} placeholder={`${collection}-docs`} onChange={(event) => setName(event.target.value)} />
            </Field>
          )}
        </div>
        {error !== null && <Problem error={error} />}
        <div className="dialog-actions">
          <Button disabled={busy} onClick={onClose}>Cancel</Button>
          <Button kind="primary" type="submit" busy={busy} disabled={!ready}>
            {every === "" ? "Read now" : "Follow"}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
