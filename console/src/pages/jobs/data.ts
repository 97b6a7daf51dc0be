import { keepPreviousData, useQuery, useQueryClient, type QueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { api, CONSOLE_HEADERS, noteStatus, ProblemError, problemOf, read, type Job, type ProblemDetails, type Step } from "../../api/client";
import { printable } from "../../lib/format";
import { serverSentEvents } from "../../api/stream";

export type JobState = NonNullable<Job["state"]>;
export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };
export type Spec = { kind: string } & Record<string, Json | undefined>;

export const STATES: JobState[] = ["queued", "running", "succeeded", "failed", "cancelled"];

/** What a person calls a kind; the API's own name stays visible beside it where that helps. */
export const KINDS: Record<string, string> = {
  ingest: "Ingest",
  reindex: "Re-index",
  evaluate: "Evaluate",
  pipeline: "Pipeline",
  switch: "Switch version",
  generate_questions: "Generate questions",
  tune: "Tune retrieval",
  batch: "Batch",
  command: "Command",
  delete: "Delete documents",
  permit: "Set permissions",
  drop: "Drop collection",
};

export const kindName = (kind: string): string => KINDS[kind] ?? kind;

export const hasEnded = (job: Job): boolean => job.state === "succeeded" || job.state === "failed" || job.state === "cancelled";

/** How much of a job is done, from 0 to 1; null where it cannot say. */
export function shareOf(job: Job): number | null {
  if (job.state === "succeeded") return 1;
  const progress = job.progress;
  if (!progress) return null;
  const { documents = 0, indexed = 0, skipped = 0, deleted = 0, failed = 0, done = 0, total = 0 } = progress;
  if (documents > 0) return (indexed + skipped + deleted + failed) / documents;
  return total > 0 ? done / total : null;
}

/** Who has asked for a job: a person or a key, a schedule, or the pipeline that it is a step of. */
export const whoOf = (job: Job): string => printable(submitterOf(job));

function submitterOf(job: Job): string {
  const options = job.options;
  // A pipeline is a link of its own.
  return (options?.parent ? "" : options?.by) || (options?.schedule ? `schedule ${options.schedule}` : "");
}

export interface Filters {
  steps: boolean;
  state?: JobState;
  kind?: string;
  collection?: string;
  after?: string;
}

const PAGE = 50;

export function useJobs(filters: Filters) {
  return useQuery({
    queryKey: ["jobs", filters],
    queryFn: ({ signal }) => read(api.GET("/v1/jobs", { params: { query: { ...filters, limit: PAGE } }, signal })),
    placeholderData: keepPreviousData,
    // What runs is looked at often; otherwise a new job is all that can happen.
    refetchInterval: ({ state }) => (state.data?.jobs.some((job) => !hasEnded(job)) ? 2_000 : 10_000),
  });
}

const jobKey = (id: string) => ["job", id] as const;

export function useJob(id: string, enabled = true) {
  return useQuery({
    queryKey: jobKey(id),
    queryFn: ({ signal }) => read(api.GET("/v1/jobs/{job}", { params: { path: { job: id } }, signal })),
    enabled: enabled && id !== "",
    // An answer that was long on its way is older than what the events have told meanwhile, perhaps the end.
    structuralSharing: (before, now) => (before !== undefined && ((before as Job).event ?? 0) > ((now as Job).event ?? 0) ? before : now),
  });
}

export interface Heard {
  at: number;
  message: string;
}

/** Follows a job for as long as it runs and the page is visible. Returns what it has said meanwhile, oldest first. */
export function useJobEvents(id: string, ended: boolean): Heard[] {
  const client = useQueryClient();
  const [heard, setHeard] = useState<Heard[]>([]);
  const visible = useVisible();
  useEffect(() => setHeard([]), [id]);
  useEffect(() => {
    if (ended || !visible) return;
    const abort = new AbortController();
    void followJob(client, id, abort.signal, (message) =>
      setHeard((before) => (before.at(-1)?.message === message ? before : [...before, { at: Date.now() / 1000, message }].slice(-200))),
    );
    return () => abort.abort();
  }, [client, id, ended, visible]);
  return heard;
}

const AGAIN_MS = 2_000;

async function followJob(client: QueryClient, id: string, signal: AbortSignal, hear: (message: string) => void): Promise<void> {
  while (!signal.aborted) {
    try {
      const response = await fetch(`/v1/jobs/${encodeURIComponent(id)}/events`, { headers: CONSOLE_HEADERS, signal });
      noteStatus(response.status);
      if (response.status >= 400 && response.status < 500) {
        await client.invalidateQueries({ queryKey: jobKey(id), exact: true });
        return;
      }
      if (!response.ok || response.body === null) throw new TypeError("no events");
      for await (const { event, data } of serverSentEvents(response.body)) {
        if (event !== "progress" && event !== "end") continue;
        const job = JSON.parse(data) as Job;
        if (job.progress?.message) hear(printable(job.progress.message));
        client.setQueryData(jobKey(id), job);
        if (event === "end") return;
      }
    } catch {
      if (signal.aborted) return;
    }
    // The gateway stops, or cannot be reached: the job itself goes on.
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    if (!signal.aborted) await client.invalidateQueries({ queryKey: jobKey(id), exact: true });
  }
}

function useVisible(): boolean {
  const [visible, setVisible] = useState(!document.hidden);
  useEffect(() => {
    const look = () => setVisible(!document.hidden);
    document.addEventListener("visibilitychange", look);
    return () => document.removeEventListener("visibilitychange", look);
  }, []);
  return visible;
}

export function useSpec(id: string, enabled = true) {
  return useQuery({
    queryKey: ["job", id, "spec"],
    queryFn: ({ signal }) =>
      read(api.GET("/v1/jobs/{job}/spec", { params: { path: { job: id } }, signal })).then((spec) => spec as unknown as Spec),
    enabled,
    staleTime: Infinity,
  });
}

export function useSteps(id: string, running: boolean, enabled = true) {
  return useQuery({
    queryKey: ["job", id, "steps", running],
    queryFn: ({ signal }): Promise<Step[]> =>
      read(api.GET("/v1/jobs/{job}/steps", { params: { path: { job: id } }, signal })).then((body) => body.steps),
    enabled: enabled && id !== "",
    placeholderData: keepPreviousData,
    refetchInterval: running ? 1_500 : false,
  });
}

/** The report of an evaluation, as `report.json` has it. */
export interface Report {
  collection: string;
  version: string;
  top_k: number;
  pipeline?: string | null;
  mode?: string;
  metrics: Record<string, number>;
  intervals?: Record<string, { low: number; high: number }>;
  comparison?: Comparison;
  questions: Judged[];
}

export interface Comparison {
  baseline: string;
  questions: number;
  differences: Record<string, { mean: number; low: number; high: number }>;
  better: Changed[];
  worse: Changed[];
}

export interface Changed {
  question: string;
  change: number;
  rank: number | null;
  rank_before: number | null;
}

export interface Judged {
  question: string;
  expected?: string[];
  found?: string[];
  rank?: number;
  latency_ms?: number;
  answer?: string;
  expected_answer?: string;
  error?: { title?: string; detail?: string } | string;
}

export function useReport(job: Job | undefined) {
  const id = job?.id ?? "";
  return useQuery({
    queryKey: ["job", id, "report"],
    queryFn: async ({ signal }): Promise<Report> => JSON.parse(await readArtifact(id, "report.json", signal)) as Report,
    enabled: job !== undefined && job.state === "succeeded" && (job.artifacts ?? []).includes("report.json"),
    staleTime: Infinity,
  });
}

export const artifactPath = (job: string, file: string): string =>
  `/v1/jobs/${encodeURIComponent(job)}/artifacts/${encodeURIComponent(file)}`;

/** The whole text of a file that a job has made. Throws ProblemError. */
export async function readArtifact(job: string, file: string, signal?: AbortSignal): Promise<string> {
  const response = await fetch(artifactPath(job, file), { headers: CONSOLE_HEADERS, ...(signal ? { signal } : {}) }).catch(
    (error: unknown) => {
      throw signal?.aborted ? error : problemOf(error);
    },
  );
  noteStatus(response.status);
  if (!response.ok) {
    const body = (await response.json().catch(() => ({}))) as Partial<ProblemDetails>;
    throw new ProblemError({ status: response.status, ...body });
  }
  return response.text();
}

/** A value of an output or a spec as text. */
export const textOf = (value: unknown): string => printable(typeof value === "string" ? value : JSON.stringify(value));

/** A spec without members that say nothing. A pipeline's parameters say something even where they are null. */
export const saidOf = (spec: Spec): Spec =>
  Object.fromEntries(
    Object.entries(spec).filter(([, value]) => value !== null && !(typeof value === "object" && Object.keys(value).length === 0)),
  ) as Spec;
