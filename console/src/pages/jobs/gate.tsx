import { useState } from "react";
import type { Job, Step } from "../../api/client";
import { useGo } from "../../lib/go";
import { useMay } from "../../lib/session";
import { useSubmitJob } from "../../lib/submit";
import { Button } from "../../ui/basics";
import { Confirm } from "../../ui/dialog";
import { useSpec, type Spec } from "./data";
import { useStepJob } from "./step-panel";

/** Where a pipeline decides whether a new version goes live: what it has decided and why, and the other way by hand. */
export function GateVerdict({ job, steps }: { job: Job; steps: Step[] }) {
  const gate = steps.find((step) => step.kind === "switch" && (step.status === "succeeded" || step.status === "skipped"));
  const build = steps.find((step) => step.kind === "reindex" && step.status === "succeeded");
  const built = useStepJob(build);
  const switched = useStepJob(gate?.status === "succeeded" ? gate : undefined);
  const spec = useSpec(job.id);
  if (!gate) return null;
  const condition = (spec.data?.["steps"] as Record<string, Spec> | undefined)?.[gate.step]?.["when"];
  const outcome = switched.data ?? built.data;
  const collection = outcome?.collection ?? "";
  const version = typeof outcome?.outputs?.["version"] === "string" ? outcome.outputs["version"] : "";
  const went = gate.status === "succeeded";
  return (
    <div className={`gate ${went ? "good" : "warn"}`} role="note" aria-label="Decision">
      <div>
        <strong>{went ? `The gate switched${version ? ` to ${version}` : ""}.` : `The gate kept the live version${version ? `: ${version} did not pass` : ""}.`}</strong>
        {went ? typeof condition === "string" && <Condition words="This held" text={condition.trim()} values="" /> : <Refusal reason={gate.reason} />}
      </div>
      {collection && (went ? <SwitchButton collection={collection} /> : version && <SwitchButton collection={collection} version={version} />)}
    </div>
  );
}

/** A condition that did not hold, with what it has read: `not a >= b (a = 1, b = 2)`. */
function Refusal({ reason }: { reason: string }) {
  const [, condition, values = ""] = /^not (.*?)(?: \(([^()]* = [^()]*)\))?$/s.exec(reason) ?? [];
  return condition ? <Condition words="This did not hold" text={condition} values={values} /> : <p dir="auto">{reason}</p>;
}

function Condition({ words, text, values }: { words: string; text: string; values: string }) {
  return (
    <>
      <p>{words}:</p>
      <pre className="condition" dir="auto">
        {text.replace(/\s+(and|or) /g, "\n$1 ")}
      </pre>
      {values && (
        <dl className="tags" dir="auto">
          {values.split(", ").map((each) => {
            const [name = "", value = ""] = each.split(" = ");
            return (
              <div key={name}>
                <dt>{name}</dt>
                <dd>{value}</dd>
              </div>
            );
          })}
        </dl>
      )}
    </>
  );
}

/** Makes a version live, or without one goes back to the version that was live before. */
export function SwitchButton({ collection, version }: { collection: string; version?: string }) {
  const [asked, setAsked] = useState(false);
  const jobs = useMay("jobs");
  const write = useMay("write");
  const submitJob = useSubmitJob();
  const go = useGo();
  if (!jobs || !write) return null;
  const start = async () => {
    const job = await submitJob({ spec: { kind: "switch", collection, ...(version ? { version } : {}) } });
    go(`/jobs/${job.id}`);
  };
  return (
    <>
      <Button onClick={() => setAsked(true)}>{version ? "Switch anyway" : "Roll back"}</Button>
      {asked && (
        <Confirm
          title={version ? `Make ${version} the live version?` : "Go back to the previous version?"}
          action={version ? "Switch" : "Roll back"}
          onConfirm={start}
          onClose={() => setAsked(false)}
        >
          <p>
            Queries of <strong dir="auto">{collection}</strong> are answered from {version ? <strong>{version}</strong> : "the version that was live before"} as
            soon as the job has ended. The other version is kept, so you can go back.
          </p>
        </Confirm>
      )}
    </>
  );
}
