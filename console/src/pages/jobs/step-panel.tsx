import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import { api, read, type Job, type Step } from "../../api/client";
import { printable } from "../../lib/format";
import { Facts, IconButton, Loading, Problem, State } from "../../ui/basics";
import { Files } from "./artifacts";
import { hasEnded, kindName, saidOf, useJob, useSpec, type Spec } from "./data";
import { tookOf } from "./graph";
import { Moment, Values } from "./job";
import { Progress } from "./list";

interface Props {
  pipeline: Job;
  step: Step;
  onClose: () => void;
}

/** One step: why it is as it is, with what it was started, and what it has made. */
export function StepPanel({ pipeline, step, onClose }: Props) {
  const written = useSpec(pipeline.id);
  const template = (written.data?.["steps"] as Record<string, Spec> | undefined)?.[step.step];
  const many = step.total > 1;
  return (
    <section className="step-panel" aria-label={`Step ${step.step}`}>
      <div className="section-head">
        <h3>{step.step}</h3>
        <State state={step.status} />
        <span className="spacer" />
        <IconButton label="Close the step" icon="close" onClick={onClose} />
      </div>
      {step.reason && (
        <p className={step.status === "failed" ? "bad pre" : "pre"} dir="auto">
          {printable(step.reason)}
        </p>
      )}
      <Facts
        facts={[
          ["Kind", kindName(step.kind)],
          ["Started", <Moment at={step.started_at} key="started" />],
          ["Took", tookOf(step)],
          ...(many ? ([["Jobs", `${step.done} of ${step.total} done, ${step.failed} failed`]] as [string, string][]) : []),
          ...(step.cached > 0 ? ([["Earlier results", `${step.cached}`]] as [string, string][]) : []),
        ]}
      />
      {many ? <StepJobs pipeline={pipeline} step={step} /> : step.job ? <StepJob id={step.job} step={step} /> : null}
      {template && (
        <details className="more">
          <summary>As the pipeline says</summary>
          <pre className="code" dir="auto" tabIndex={0}>
            {JSON.stringify(template, null, 2)}
          </pre>
        </details>
      )}
    </section>
  );
}

function StepJob({ id, step }: { id: string; step: Step }) {
  const begun = step.status !== "waiting" && step.status !== "skipped" && step.cached === 0;
  const job = useQuery({
    queryKey: ["job", id],
    queryFn: ({ signal }) => read(api.GET("/v1/jobs/{job}", { params: { path: { job: id } }, signal })),
    enabled: begun,
    refetchInterval: ({ state }) => (state.data && hasEnded(state.data) ? false : 2_000),
  });
  const spec = useSpec(id, begun);
  if (!begun) return null;
  if (job.isPending) return <Loading label="Reading its job" />;
  if (!job.data) return <Problem error={job.error} retry={() => void job.refetch()} />;
  const outputs = Object.entries(job.data.outputs ?? {});
  return (
    <>
      <p>
        Its job is <Link to={`/jobs/${id}`}>{id}</Link>. {!job.data.error && <Progress job={job.data} />}
      </p>
      {job.data.error && (
        <div className="problem" role="alert">
          <div>
            <strong>{job.data.error.title}</strong>
            {job.data.error.detail && (
              <p dir="auto" className="pre">
                {printable(job.data.error.detail)}
              </p>
            )}
          </div>
        </div>
      )}
      {spec.data && (
        <>
          <h4>Inputs</h4>
          <Values values={Object.entries(saidOf(spec.data))} />
        </>
      )}
      {outputs.length > 0 && (
        <>
          <h4>Outputs</h4>
          <Values values={outputs} />
        </>
      )}
      <Files job={job.data} />
    </>
  );
}

const MOST_JOBS = 1000;

/** The jobs of a step that fans out over a list. */
function StepJobs({ pipeline, step }: { pipeline: Job; step: Step }) {
  const jobs = useQuery({
    queryKey: ["jobs", "of", pipeline.id, step.done, step.failed, step.status],
    queryFn: ({ signal }) => read(api.GET("/v1/jobs", { params: { query: { parent: pipeline.id, limit: MOST_JOBS } }, signal })),
    placeholderData: (before) => before,
    refetchInterval: step.status === "running" ? 3_000 : false,
  });
  if (jobs.isPending) return <Loading label="Reading its jobs" />;
  if (!jobs.data) return <Problem error={jobs.error} retry={() => void jobs.refetch()} />;
  const own = jobs.data.jobs.filter((job) => job.id.startsWith(`${step.job}-`)).reverse();
  return (
    <ul className="step-jobs">
      {own.map((job) => (
        <li key={job.id}>
          <State state={job.state ?? "queued"} /> <Link to={`/jobs/${job.id}`}>{job.id.slice(step.job.length + 1)}</Link> <Progress job={job} />
        </li>
      ))}
    </ul>
  );
}

/** The job of a step, once it has begun. */
export const useStepJob = (step: Step | undefined) => useJob(step?.job ?? "", step !== undefined && step.total <= 1 && step.status === "succeeded");
