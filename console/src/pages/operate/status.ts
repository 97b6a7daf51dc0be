import { useQuery } from "@tanstack/react-query";
import { useMemo, useRef } from "react";
import { api, read, type ServiceStatus, type StageStatus, type Status } from "../../api/client";

const EVERY = 2_000;

/** Looks that are kept: five minutes of them. */
const KEPT = 150;

type Totals = NonNullable<StageStatus["work"]>;

/** What a stage's variant did in some time. Milliseconds are means over the queries that ended, but for the percentile. */
export interface Work {
  seconds: number | null;
  ended: number;
  failed: number;
  waitedMs: number | null;
  workedMs: number | null;
  worked95: Percentile | null;
}

/** A percentile as histograms tell it: at most so much, or beyond their last bound. */
export interface Percentile {
  ms: number;
  beyond: boolean;
}

/** One variant of a stage, over all its processes. */
export interface StageFigures {
  stage: string;
  variant: string;
  workers: number;
  ready: number;
  room: number;
  inFlight: number;
  batchInFlight: number;
  waiting: number;
  batchWaiting: number;
  /** What workers that do not answer still have, by the broker's count. */
  held: number;
  models: string[];
  total: Work | null;
  recent: Work | null;
}

interface Sample {
  at: number;
  status: Status;
}

/** A process that is too busy to answer is shown as it last was, for so long. */
const REMEMBERED_MS = 15_000;

export interface Process extends ServiceStatus {
  silent: boolean;
}

export interface Live {
  status: Status | undefined;
  error: unknown;
  processes: Process[];
  stages: StageFigures[];
  history: Map<string, number[]>;
  retry: () => void;
}

export const keyOf = (stage: { stage: string; variant: string }): string => `${stage.stage}/${stage.variant}`;

/** As people call it: the stage alone where it is the usual variant. */
export const nameOf = (stage: { stage: string; variant: string }): string =>
  stage.variant === "default" ? stage.stage : keyOf(stage);

/** The platform's status, every other second while the page is seen, with what has changed since earlier looks. */
export function useLiveStatus(enabled: boolean): Live {
  const samples = useRef<Sample[]>([]);
  const query = useQuery({
    queryKey: ["status"],
    queryFn: () => read(api.GET("/v1/status")),
    refetchInterval: EVERY,
    enabled,
  });
  const { data, dataUpdatedAt } = query;
  return useMemo(() => {
    if (data && samples.current.at(-1)?.at !== dataUpdatedAt) {
      samples.current = [...samples.current, { at: dataUpdatedAt, status: data }].slice(-KEPT);
    }
    const processes = data ? processesOf(samples.current) : [];
    return {
      status: data,
      error: query.error,
      processes,
      stages: data ? figures(samples.current, processes) : [],
      history: historyOf(samples.current),
      retry: () => void query.refetch(),
    };
  }, [data, dataUpdatedAt, query.error]);
}

const processKey = (service: ServiceStatus): string => `${service.service} ${service.instance} ${service.started_at}`;

function processesOf(samples: Sample[]): Process[] {
  const last = samples.at(-1)!;
  const found = new Map<string, Process>(last.status.services.map((one) => [processKey(one), { ...one, silent: false }]));
  for (const sample of [...samples].reverse()) {
    if (last.at - sample.at > REMEMBERED_MS) break;
    for (const service of sample.status.services) {
      if (!found.has(processKey(service))) found.set(processKey(service), { ...service, silent: true });
    }
  }
  return [...found.values()].sort((one, other) => processKey(one).localeCompare(processKey(other)));
}

function figures(samples: Sample[], processes: Process[]): StageFigures[] {
  const status = samples.at(-1)!.status;
  const found = new Map<string, StageFigures>();
  const at = (stage: string, variant: string): StageFigures => {
    const key = keyOf({ stage, variant });
    let known = found.get(key);
    if (!known) {
      const none = { workers: 0, ready: 0, room: 0, inFlight: 0, batchInFlight: 0, waiting: 0, batchWaiting: 0, held: 0 };
      known = { stage, variant, ...none, models: [], total: null, recent: null };
      found.set(key, known);
    }
    return known;
  };
  for (const service of processes) {
    if (service.window) {
      const one = at(GATEWAY, "default");
      one.workers += 1;
      one.ready += service.ready ? 1 : 0;
      one.room += service.window.room;
      one.inFlight += service.window.in_flight["interactive"] ?? 0;
      one.batchInFlight += service.window.in_flight["batch"] ?? 0;
      one.waiting += service.window.waiting["interactive"] ?? 0;
      one.batchWaiting += service.window.waiting["batch"] ?? 0;
    }
    for (const stage of service.stages) {
      if (stage.stage === "jobs") continue;
      const one = at(stage.stage, stage.variant);
      one.workers += 1;
      one.ready += service.ready ? 1 : 0;
      one.room += stage.room;
      one.inFlight += stage.lane_in_flight["interactive"] ?? 0;
      one.batchInFlight += stage.lane_in_flight["batch"] ?? 0;
      if (stage.model && !one.models.includes(stage.model)) one.models.push(stage.model);
    }
  }
  for (const queue of status.queues) {
    const one = at(queue.stage, queue.variant);
    if (queue.lane === "batch") one.batchWaiting += queue.waiting;
    else one.waiting += queue.waiting;
    if (one.workers === 0) one.held += queue.in_flight;
  }
  const now = totals(processes);
  const before = samples.length > 1 ? samples[0]! : null;
  const then = before ? totals(before.status.services) : null;
  const seconds = before ? (samples.at(-1)!.at - before.at) / 1000 : 0;
  for (const [key, one] of found) {
    one.total = workOf(now, null, key, null);
    one.recent = then ? workOf(now, then, key, seconds) : null;
  }
  // A queue whose workers were taken away long ago says nothing of today.
  return [...found.values()]
    .filter((one) => one.workers > 0 || one.waiting + one.batchWaiting + one.held > 0)
    .sort((one, other) => byStage(one.stage, other.stage) || byVariant(one.variant, other.variant));
}

/** Gateways hold queries back until it is their tenant's turn, and stand before the stages like one. */
export const GATEWAY = "gateway";

const ORDER = [GATEWAY, "embed", "retrieve", "rerank", "generate", "condense", "expand"];

/** The way of a query first, then those that help it, then all others by name. */
export function byStage(one: string, other: string): number {
  const place = (stage: string) => (ORDER.includes(stage) ? ORDER.indexOf(stage) : ORDER.length);
  return place(one) - place(other) || one.localeCompare(other);
}

/** `default` first. */
export const byVariant = (one: string, other: string): number =>
  one === other ? 0 : one === "default" ? -1 : other === "default" ? 1 : one.localeCompare(other);

interface Counted extends Totals {
  key: string;
}

/** By process and stage; a process that has started again is another one. */
function totals(services: readonly ServiceStatus[]): Map<string, Counted> {
  const found = new Map<string, Counted>();
  for (const service of services) {
    for (const stage of service.stages) {
      if (stage.work) found.set(`${processKey(service)} ${keyOf(stage)}`, { key: keyOf(stage), ...stage.work });
    }
  }
  return found;
}

const NOTHING: Totals = { ended: 0, failed: 0, waited_seconds: 0, worked_seconds: 0, worked_buckets: [] };

type Bucket = Totals["worked_buckets"][number];

/** The 95th percentile, where the messages of a bucket are taken to be spread evenly in it. */
function percentile95(buckets: readonly Bucket[]): Percentile | null {
  let left = 0.95 * buckets.reduce((sum, bucket) => sum + bucket.ended, 0);
  for (const { over, up_to: upTo, ended } of [...buckets].sort((one, other) => one.over - other.over)) {
    if (ended > 0 && left <= ended) {
      return upTo == null ? { ms: 1000 * over, beyond: true } : { ms: 1000 * (over + ((upTo - over) * left) / ended), beyond: false };
    }
    left -= ended;
  }
  return null;
}

/** What has come into the buckets since, where `then` are those of the same process before. */
function added(sum: Map<number, Bucket>, now: readonly Bucket[], then: readonly Bucket[]): void {
  const before = new Map(then.map((bucket) => [bucket.over, bucket.ended]));
  for (const bucket of now) {
    const ended = (sum.get(bucket.over)?.ended ?? 0) + bucket.ended - (before.get(bucket.over) ?? 0);
    sum.set(bucket.over, { ...bucket, ended });
  }
}

function workOf(now: Map<string, Counted>, then: Map<string, Counted> | null, key: string, seconds: number | null): Work | null {
  let known = false;
  const sum = { ...NOTHING };
  const buckets = new Map<number, Bucket>();
  for (const [process, work] of now) {
    if (work.key !== key) continue;
    known = true;
    const before = then?.get(process) ?? NOTHING;
    sum.ended += work.ended - before.ended;
    sum.failed += work.failed - before.failed;
    sum.waited_seconds += work.waited_seconds - before.waited_seconds;
    sum.worked_seconds += work.worked_seconds - before.worked_seconds;
    added(buckets, work.worked_buckets, before.worked_buckets);
  }
  if (!known) return null;
  const mean = (total: number) => (sum.ended > 0 ? (1000 * total) / sum.ended : null);
  return {
    seconds,
    ended: sum.ended,
    failed: sum.failed,
    waitedMs: mean(sum.waited_seconds),
    workedMs: mean(sum.worked_seconds),
    worked95: percentile95([...buckets.values()]),
  };
}

/** The backlog of each stage's variant at each look: what waits, in both lanes. */
function historyOf(samples: Sample[]): Map<string, number[]> {
  const found = new Map<string, number[]>();
  samples.forEach(({ status }, index) => {
    const add = (key: string, waiting: number) => {
      let waits = found.get(key);
      if (!waits) found.set(key, (waits = new Array<number>(samples.length).fill(0)));
      waits[index]! += waiting;
    };
    for (const queue of status.queues) add(keyOf(queue), queue.waiting);
    for (const { window } of status.services) {
      if (window) add(`${GATEWAY}/default`, (window.waiting["interactive"] ?? 0) + (window.waiting["batch"] ?? 0));
    }
  });
  return found;
}

export interface Finding {
  tone: "bad" | "warn";
  text: string;
  remedy: string;
  to?: string;
}

const NEEDED = ["embed", "retrieve", "generate"];
const LONG_QUEUE = 100;

/** What the status shows to be wrong, as `sluice doctor` judges it. */
export function findingsOf(status: Status, processes: Process[], stages: StageFigures[]): Finding[] {
  const found: Finding[] = [];
  const away = processes.filter((service) => !service.ready);
  for (const service of away.slice(0, 5)) {
    found.push({ tone: "bad", text: `${service.service} (${service.instance}) is not ready.`, remedy: "Read its log." });
  }
  if (away.length > 5) found.push({ tone: "bad", text: `${away.length - 5} more processes are not ready.`, remedy: "Read their logs." });
  const served = new Set(stages.filter((stage) => stage.ready > 0).map((stage) => stage.stage));
  const waiting = stages.filter((stage) => stage.waiting + stage.batchWaiting > 0).map((stage) => stage.stage);
  for (const stage of new Set([...NEEDED, ...waiting])) {
    if (!served.has(stage)) {
      found.push({
        tone: "bad",
        text: `No worker serves ${stage}.`,
        remedy: "Start one: queries wait in its queue until their deadline.",
      });
    }
  }
  for (const stage of NEEDED) {
    if (served.has(stage) && !stages.some((one) => one.stage === stage && one.variant === "default" && one.ready > 0)) {
      found.push({
        tone: "warn",
        text: `No worker serves ${stage}/default.`,
        remedy: "Queries that no route sends elsewhere wait in its queue.",
      });
    }
  }
  for (const stage of stages) {
    if (stage.held > 0) {
      found.push({
        tone: "bad",
        text: `Workers of ${nameOf(stage)} do not answer. They have ${stage.held === 1 ? "1 message" : `${stage.held} messages`} in work.`,
        remedy: "Other workers get these after a while.",
      });
    }
    if (stage.waiting > LONG_QUEUE && stage.stage !== GATEWAY) {
      found.push({ tone: "warn", text: `${stage.waiting} queries wait for ${nameOf(stage)}.`, remedy: `Add workers of ${stage.stage}.` });
    }
  }
  for (const warning of status.warnings) found.push({ tone: "warn", text: warning, remedy: "" });
  if (status.dead_letters > 0) {
    const letters = status.dead_letters === 1 ? "1 message was" : `${status.dead_letters} messages were`;
    found.push({ tone: "warn", text: `${letters} given up on.`, remedy: "The dead letters say why.", to: "/jobs/dead-letters" });
  }
  return found;
}

export const versionsOf = (services: readonly ServiceStatus[]): string[] =>
  [...new Set(services.map((service) => service.version))].sort();
