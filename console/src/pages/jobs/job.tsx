import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Link, useNavigate, useParams, useSearchParams } from "react-router";
import { api, read, type Job } from "../../api/client";
import { bytes, moment, percent, plural, printable } from "../../lib/format";
import { useMay } from "../../lib/session";
import { Bar, Button, CopyButton, Empty, Facts, Field, Loading, PageHead, Problem, State, Time } from "../../ui/basics";
import { Confirm } from "../../ui/dialog";
import { Files } from "./artifacts";
import { documentsOf as documents, tookOf } from "./list";
import { hasEnded, kindName, saidOf, shareOf, textOf, useJob, useJobEvents, useSpec, useSteps, whoOf, type Heard, type Spec } from "./data";
import { Evaluation } from "./evaluation";
import { GateVerdict } from "./gate";
import { PipelineSteps } from "./graph";
import { Back } from "./start";
import { StepPanel } from "./step-panel";

/** One job: what it does now, what it was to do, and what became of it. */
export function JobPage() {
  const { job: id = "" } = useParams();
  const job = useJob(id);
  if (job.isPending) return <Loading label="Reading the job" />;
  if (!job.data) {
    return (
      <div className="page jobs-page">
        <Back />
        <Problem error={job.error} retry={() => void job.refetch()} />
      </div>
    );
  }
  return <JobDetails key={id} job={job.data} />;
}

function JobDetails({ job }: { job: Job }) {
  const heard = useJobEvents(job.id, hasEnded(job));
  const parent = job.options?.parent;
  const spec = useSpec(job.id);
  return (
    <div className="page jobs-page">
      {parent ? <Back to={`/jobs/${parent}`} label="The pipeline" /> : <Back />}
      <PageHead
        title={[kindName(job.kind), job.collection || job.name || nameOf(spec.data)].filter(Boolean).join(": ")}
        lead={<span className="mono job-title-id">{job.id}</span>}
      >
        <Actions job={job} />
      </PageHead>
      <Now job={job} />
      {job.kind === "pipeline" && <Steps job={job} />}
      {(job.kind === "evaluate" || job.kind === "tune") && <Evaluation job={job} />}
      <DocumentFaults job={job} />
      <Outputs job={job} />
      <Files job={job} />
      <Inputs job={job} />
      <History job={job} heard={heard} />
    </div>
  );
}

const nameOf = (spec: Spec | undefined): string => (typeof spec?.["name"] === "string" ? spec["name"] : "");

function Actions({ job }: { job: Job }) {
  const may = useMay("jobs");
  const [asked, setAsked] = useState<"cancel" | "retry" | null>(null);
  const [reason, setReason] = useState("");
  const spec = useSpec(job.id);
  const client = useQueryClient();
  const navigate = useNavigate();
  if (!may) return null;
  const changed = async (made: Job) => {
    client.setQueryData(["job", job.id], made);
    await client.invalidateQueries({ queryKey: ["job", job.id] });
    void client.invalidateQueries({ queryKey: ["jobs"] });
  };
  const params = { params: { path: { job: job.id } } };
  // Uploaded documents are gone once they are indexed, and collections are dropped elsewhere.
  const repeatable = spec.data !== undefined && job.kind !== "drop" && !(job.kind === "ingest" && !spec.data["source"]);
  return (
    <>
      {repeatable && (
        <Button icon="copy" onClick={() => void navigate(`/jobs/new?like=${job.id}`)}>
          Start a similar one
        </Button>
      )}
      {job.state === "failed" && (
        <Button kind="primary" icon="retry" onClick={() => setAsked("retry")}>
          Retry
        </Button>
      )}
      {!hasEnded(job) && (
        <Button kind="danger" icon="stop" disabled={job.cancel_requested ?? false} onClick={() => setAsked("cancel")}>
          {job.cancel_requested ? "Cancelling" : "Cancel"}
        </Button>
      )}
      {asked === "cancel" && (
        <Confirm
          title="Cancel this job?"
          action="Cancel the job"
          onClose={() => setAsked(null)}
          onConfirm={async () => changed((await read(api.POST("/v1/jobs/{job}/cancel", { ...params, body: { reason, by: "" } }))).job)}
        >
          <p>
            {job.kind === "pipeline" ? "Its running steps end too. " : ""}
            What it has done stays. A cancelled job cannot be retried.
          </p>
          <Field label="Reason (optional)">
            <input dir="auto" value={reason} maxLength={500} onChange={(event) => setReason(event.target.value)} />
          </Field>
        </Confirm>
      )}
      {asked === "retry" && (
        <Confirm
          title="Retry this job?"
          action="Retry"
          onClose={() => setAsked(null)}
          onConfirm={async () => changed((await read(api.POST("/v1/jobs/{job}/retry", { ...params, body: { reason: "", by: "" } }))).job)}
        >
          <p>{job.kind === "pipeline" ? "The steps that have succeeded are kept." : "It goes on from its last checkpoint."}</p>
        </Confirm>
      )}
    </>
  );
}

function Now({ job }: { job: Job }) {
  const share = shareOf(job);
  const state = job.cancel_requested && !hasEnded(job) ? "cancelling" : (job.state ?? "queued");
  const options = job.options;
  const labels = Object.entries(options?.labels ?? {});
  const { done = 0, total = 0 } = job.progress ?? {};
  return (
    <section className="panel padded now" aria-label="State">
      <div className="now-head">
        <span role="status">
          <State state={state} />
        </span>
        {job.progress?.message && !job.error && (
          <span className="now-message" dir="auto">
            {printable(job.progress.message)}
          </span>
        )}
        {job.state === "queued" && !job.progress?.message && <span className="faint">It waits for a free slot.</span>}
      </div>
      {!hasEnded(job) && share !== null && (
        <div className="now-bar">
          <Bar share={share} label="Progress" />
          <span className="faint nowrap">
            {percent(share)}
            {total > 0 && `, ${done.toLocaleString("en")} of ${total.toLocaleString("en")}`}
          </span>
        </div>
      )}
      {job.error && (
        <div className="problem" role="alert">
          <div>
            <strong>{job.error.title}</strong>
            {job.error.detail && (
              <p dir="auto" className="pre">
                {printable(job.error.detail)}
              </p>
            )}
            {(job.attempt ?? 0) > 1 && <p className="faint">After {plural(job.attempt ?? 0, "try", "tries")}.</p>}
          </div>
        </div>
      )}
      <Facts
        facts={[
          ["Created", <Moment at={job.created_at} key="created" />],
          ["Started", <Moment at={job.started_at} key="started" />],
          [hasEnded(job) ? "Ended" : "Running for", hasEnded(job) ? <Moment at={job.finished_at} key="ended" /> : tookOf(job)],
          ...(hasEnded(job) ? ([["Took", tookOf(job)]] as [string, string][]) : []),
          ["Started by", <span dir="auto" key="by">{whoOf(job) || "–"}</span>],
          ...(options?.schedule
            ? ([["Schedule", <Link key="schedule" to={`/jobs/schedules/${encodeURIComponent(options.schedule)}`}>{options.schedule}</Link>]] as [string, React.ReactNode][])
            : []),
          ["Try", `${job.attempt ?? 0} of at most ${options?.retry?.limit ?? 5}`],
          ...(options?.priority && options.priority !== "normal" ? ([["Priority", options.priority]] as [string, string][]) : []),
          ...(job.progress?.documents ? ([["Documents", documents(job)]] as [string, string][]) : []),
          ...(job.progress?.bytes ? ([["Read", bytes(job.progress.bytes)]] as [string, string][]) : []),
        ]}
      />
      {labels.length > 0 && (
        <dl className="tags">
          {labels.map(([name, value]) => (
            <div key={name}>
              <dt>{name}</dt>
              <dd dir="auto">{value}</dd>
            </div>
          ))}
        </dl>
      )}
    </section>
  );
}

export function Moment({ at }: { at: number | null | undefined }) {
  if (at == null) return <span className="faint">–</span>;
  return (
    <>
      {moment(at)} <span className="faint">(<Time at={at} />)</span>
    </>
  );
}

function Steps({ job }: { job: Job }) {
  const running = !hasEnded(job);
  const steps = useSteps(job.id, running);
  const [search, setSearch] = useSearchParams();
  const chosen = search.get("step");
  const select = (name: string) => {
    const next = new URLSearchParams(search);
    if (name === chosen) next.delete("step");
    else next.set("step", name);
    setSearch(next, { replace: true });
  };
  const step = steps.data?.find((one) => one.step === chosen);
  return (
    <section className="panel padded" aria-label="Steps">
      <h2>Steps</h2>
      {steps.isPending ? (
        <Loading label="Reading the steps" />
      ) : steps.error && !steps.data ? (
        <Problem error={steps.error} retry={() => void steps.refetch()} />
      ) : (
        <>
          <PipelineSteps steps={steps.data ?? []} selected={step?.step ?? null} onSelect={select} />
          <GateVerdict job={job} steps={steps.data ?? []} />
          {step && <StepPanel key={step.step} pipeline={job} step={step} onClose={() => select(step.step)} />}
        </>
      )}
    </section>
  );
}

function DocumentFaults({ job }: { job: Job }) {
  const errors = job.errors ?? [];
  const warnings = job.warnings ?? [];
  const failed = job.progress?.failed ?? 0;
  if (errors.length === 0 && warnings.length === 0) return null;
  return (
    <section className="panel padded" aria-label="Documents with problems">
      {errors.length > 0 && (
        <>
          <h2>{job.kind === "batch" ? "Failed lines" : "Failed documents"}</h2>
          {failed > errors.length && <p className="faint">The first {errors.length} of {failed.toLocaleString("en")}.</p>}
          <ul className="fault-list">
            {errors.map((error, index) => (
              <li key={index}>
                <strong className="name" dir="auto">
                  {printable(error.document)}
                </strong>
                <span dir="auto">
                  {printable(error.detail ? `${error.title}: ${error.detail}` : error.title)}
                </span>
              </li>
            ))}
          </ul>
        </>
      )}
      {warnings.length > 0 && (
        <>
          <h2>Warnings</h2>
          <ul className="fault-list">
            {warnings.map((warning, index) => (
              <li key={index}>
                <strong className="name" dir="auto">
                  {printable(warning.document)}
                </strong>
                <span dir="auto">{printable(warning.detail)}</span>
              </li>
            ))}
          </ul>
        </>
      )}
    </section>
  );
}

function Outputs({ job }: { job: Job }) {
  const outputs = Object.entries(job.outputs ?? {});
  // The report of an evaluation has them, with their intervals.
  if (outputs.length === 0 || job.kind === "evaluate") return null;
  return (
    <section className="panel padded" aria-label="Outputs">
      <h2>Outputs</h2>
      <Values values={outputs} />
    </section>
  );
}

/** Names and values as JSON has them. */
export function Values({ values }: { values: [string, unknown][] }) {
  return (
    <dl className="values">
      {values.map(([name, value]) => (
        <div key={name}>
          <dt className="mono">{name}</dt>
          <dd dir="auto">{textOf(value)}</dd>
        </div>
      ))}
    </dl>
  );
}

function Inputs({ job }: { job: Job }) {
  const spec = useSpec(job.id);
  const text = JSON.stringify(spec.data && saidOf(spec.data), null, 2);
  return (
    <section className="panel padded" aria-label="Inputs">
      <div className="section-head">
        <h2>Inputs</h2>
        {spec.data && <CopyButton text={() => text} />}
      </div>
      {spec.isPending ? (
        <Loading label="Reading the spec" />
      ) : spec.data ? (
        <pre className="code" dir="auto" tabIndex={0} aria-label="Spec as JSON">
          {text}
        </pre>
      ) : (
        <Problem error={spec.error} retry={() => void spec.refetch()} />
      )}
    </section>
  );
}

/** Each change of the state with who made it and why, and what the job says while one watches. */
function History({ job, heard }: { job: Job; heard: Heard[] }) {
  const audit = useQuery({
    queryKey: ["job", job.id, "audit", job.event],
    queryFn: ({ signal }) => read(api.GET("/v1/jobs/{job}/audit", { params: { path: { job: job.id } }, signal })),
    placeholderData: (before) => before,
  });
  const events = audit.data?.events ?? [];
  const entries = [
    ...events.map((event) => ({
      at: typeof event.at === "string" ? Date.parse(event.at) / 1000 : event.at,
      state: event.state as string | null,
      words: printable([event.by && `by ${event.by}`, event.reason, event.attempt > 1 ? `try ${event.attempt}` : ""].filter(Boolean).join(", ")),
    })),
    ...heard.map(({ at, message }) => ({ at, state: null, words: message })),
  ].sort((one, other) => one.at - other.at);
  return (
    <section className="panel padded" aria-label="Events">
      <h2>Events</h2>
      {audit.isPending ? (
        <Loading label="Reading the events" />
      ) : audit.error && !audit.data ? (
        <Problem error={audit.error} retry={() => void audit.refetch()} />
      ) : entries.length === 0 ? (
        <Empty icon="history" title="There are no events" />
      ) : (
        <ol className="events">
          {entries.map((entry, index) => (
            <li key={index}>
              <time className="faint mono" dateTime={new Date(entry.at * 1000).toISOString()} title={moment(entry.at)}>
                {new Date(entry.at * 1000).toLocaleTimeString("en-GB")}
              </time>
              {entry.state && <State state={entry.state} />}
              <span dir="auto" className="name">
                {entry.words}
              </span>
            </li>
          ))}
        </ol>
      )}
    </section>
  );
}
