import { useQuery } from "@tanstack/react-query";
import { useEffect, useState, type FormEvent } from "react";
import { Link } from "react-router";
import { api, ProblemError, read, type Collection, type CollectionVersion, type Job } from "../../api/client";
import { count } from "../../lib/format";
import { useMay } from "../../lib/session";
import { useSubmitJob } from "../../lib/submit";
import { Bar, Button, Field, Problem, State, Time } from "../../ui/basics";
import { Confirm, Dialog } from "../../ui/dialog";
import { paths, useRefresh } from "./queries";

/** The ways in which a collection is indexed; one of them answers questions. */
export function VersionsView({ collection }: { collection: Collection }) {
  const mayWrite = useMay("write");
  const mayChange = useMay("jobs") && mayWrite;
  const refresh = useRefresh(collection.name);
  const submitJob = useSubmitJob();
  const [building, setBuilding] = useState(false);
  const [target, setTarget] = useState<CollectionVersion | null>(null);
  const [submitted, setSubmitted] = useState<string[]>([]);
  const versions = [...collection.versions].reverse();
  const took = async (job: Job) => {
    setSubmitted((before) => [job.id, ...before]);
    await refresh();
  };
  return (
    <section className="panel" aria-label="Versions">
      <div className="part-head padded">
        <p className="faint">
          A version is a way to cut and embed the documents. The live one answers questions while another is built beside it.
        </p>
        {mayChange && (
          <Button icon="plus" onClick={() => setBuilding(true)}>
            Re-index
          </Button>
        )}
      </div>
      {submitted.map((job) => (
        <SubmittedJob key={job} id={job} collection={collection.name} />
      ))}
      <div className="scroller">
        <table>
          <thead>
            <tr>
              <th scope="col">Version</th>
              <th scope="col">State</th>
              <th scope="col" className="number wide-only">Documents</th>
              <th scope="col" className="number wide-only">Passages</th>
              <th scope="col" className="wide-only">Indexing</th>
              <th scope="col" className="wide-only">Made</th>
              {mayChange && (
                <th scope="col">
                  <span className="visually-hidden">Actions</span>
                </th>
              )}
            </tr>
          </thead>
          <tbody>
            {versions.map((version) => (
              <tr key={version.name}>
                <th scope="row" className="name row-name">
                  {version.name}
                </th>
                <td>
                  <State state={version.state} />
                  {version.state === "building" && version.job && <JobBar id={version.job} />}
                </td>
                <td className="number wide-only">{count(version.documents)}</td>
                <td className="number wide-only">{count(version.chunks)}</td>
                <td className="wide-only">{wayOf(version)}</td>
                <td className="wide-only nowrap">
                  <Time at={version.created_at} />
                  {version.job && (
                    <>
                      {" "}
                      · <Link to={paths.job(version.job)}>job</Link>
                    </>
                  )}
                </td>
                {mayChange && (
                  <td className="number">
                    {(version.state === "ready" || version.state === "retired") && (
                      <Button onClick={() => setTarget(version)}>{version.state === "retired" ? "Roll back" : "Make live"}</Button>
                    )}
                  </td>
                )}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {building && <Reindex collection={collection} onClose={() => setBuilding(false)} onDone={took} />}
      {target && (
        <Confirm
          title={target.state === "retired" ? `Roll back to version ${target.name}?` : `Make version ${target.name} live?`}
          action={target.state === "retired" ? "Roll back" : "Make live"}
          onClose={() => setTarget(null)}
          onConfirm={async () => {
            const spec = { kind: "switch" as const, collection: collection.name, version: target.name };
            await took(await submitJob({ spec }));
          }}
        >
          <p>
            A job first brings it up to date with the documents of {collection.version}. Then it answers all questions, and{" "}
            {collection.version} is kept for a rollback. No question fails meanwhile.
          </p>
        </Confirm>
      )}
    </section>
  );
}

function wayOf(version: CollectionVersion): string {
  const parts: string[] = [];
  parts.push(version.chunk_tokens == null ? "usual passages" : `passages of ${version.chunk_tokens} tokens`);
  if (version.chunk_overlap != null) parts.push(`${version.chunk_overlap} of overlap`);
  if (version.embedding_variant !== "default") parts.push(`embedded by ${version.embedding_variant}`);
  if (version.retrieval.mode) parts.push(`search by ${version.retrieval.mode}`);
  if (version.rerank_candidates > 0) parts.push(`reranks ${version.rerank_candidates}`);
  return parts.join(", ");
}

const JOB_MS = 1_500;

export function useJob(id: string) {
  return useQuery({
    queryKey: ["job", id],
    queryFn: () => read(api.GET("/v1/jobs/{job}", { params: { path: { job: id } } })),
    refetchInterval: ({ state }) => (state.data && state.data.state !== "queued" && state.data.state !== "running" ? false : JOB_MS),
  });
}

function JobBar({ id }: { id: string }) {
  const job = useJob(id);
  const share = job.data ? shareOf(job.data) : null;
  return share === null ? null : (
    <>
      {" "}
      <Bar share={share} label="How much of the version is built" />
    </>
  );
}

export function shareOf(job: Job): number | null {
  const progress = job.progress;
  if (!progress) return null;
  const documents = progress.documents ?? 0;
  const ended = (progress.indexed ?? 0) + (progress.skipped ?? 0) + (progress.deleted ?? 0) + (progress.failed ?? 0);
  const [done, total] = documents > 0 ? [ended, documents] : [progress.done ?? 0, progress.total ?? 0];
  return total > 0 ? done / total : null;
}

/** What became of a switch or of a build that was started here. */
function SubmittedJob({ id, collection }: { id: string; collection: string }) {
  const job = useJob(id);
  const refresh = useRefresh(collection);
  const state = job.data?.state;
  useEffect(() => void refresh(), [state, refresh]);
  if (!job.data) return null;
  const share = shareOf(job.data);
  return (
    <div className="submitted" role="status">
      <State state={job.data.state ?? "queued"} />
      <span>{job.data.kind === "switch" ? "Switch of versions" : "Build of a version"}</span>
      {state === "running" && share !== null && <Bar share={share} label="Progress" />}
      <Link to={paths.job(id)}>Look at the job</Link>
      {state === "failed" && job.data.error && <Problem error={new ProblemError(job.data.error)} />}
    </div>
  );
}

interface ReindexProps {
  collection: Collection;
  onClose: () => void;
  onDone: (job: Job) => Promise<void>;
}

function Reindex({ collection, onClose, onDone }: ReindexProps) {
  const submitJob = useSubmitJob();
  const [version, setVersion] = useState("");
  const [tokens, setTokens] = useState("");
  const [overlap, setOverlap] = useState("");
  const [variant, setVariant] = useState("");
  const [live, setLive] = useState(true);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      const spec = {
        kind: "reindex" as const,
        collection: collection.name,
        switch: live,
        ...(version && { version }),
        ...(tokens && { chunk_tokens: Number(tokens) }),
        ...(overlap && { chunk_overlap: Number(overlap) }),
        ...(variant && { embedding_variant: variant }),
      };
      await onDone(await submitJob({ spec }));
      onClose();
    } catch (failure) {
      setError(failure);
      setBusy(false);
    }
  };
  return (
    <Dialog title="Build another version" onClose={onClose} busy={busy}>
      <form className="form" onSubmit={(event) => void submit(event)}>
        <p className="faint">It is built from the originals of the documents. What is left empty stays as in {collection.version}.</p>
        <Field label="Name" hint="Left empty, the next number.">
          <input value={version} spellCheck={false} maxLength={32} placeholder="small" onChange={(event) => setVersion(event.target.value)} />
        </Field>
        <div className="pair">
          <Field label="Tokens of a passage">
            <input type="number" min={32} max={8192} value={tokens} placeholder="256" onChange={(event) => setTokens(event.target.value)} />
          </Field>
          <Field label="Tokens of overlap">
            <input type="number" min={0} value={overlap} placeholder="32" onChange={(event) => setOverlap(event.target.value)} />
          </Field>
        </div>
        <Field label="Embedding variant" hint="A variant of the stage embed that runs, for another model.">
          <input value={variant} spellCheck={false} placeholder="default" onChange={(event) => setVariant(event.target.value)} />
        </Field>
        <label className="check">
          <input type="checkbox" checked={live} onChange={(event) => setLive(event.target.checked)} />
          Make it live when it is complete
        </label>
        {error !== null && <Problem error={error} />}
        <div className="dialog-actions">
          <Button disabled={busy} onClick={onClose}>Cancel</Button>
          <Button kind="primary" type="submit" busy={busy}>
            Build
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
