import { useSyncExternalStore } from "react";
import { newKey } from "../../lib/submit";
import { api, CONSOLE_HEADERS, noteStatus, problemOf, ProblemError, read, UNREACHABLE, type Job } from "../../api/client";
import type { Chosen } from "./collect";

export type TransferState = "waiting" | "sending" | "queued" | "reading" | "done" | "failed" | "cancelled";

/** What goes with every file of one choice: JSON texts, empty where nothing is said. */
export interface UploadOptions {
  metadata: string;
  allowed: string;
}

export interface Transfer {
  readonly id: number;
  readonly collection: string;
  readonly name: string;
  readonly size: number;
  readonly options: UploadOptions;
  file: File | null;
  state: TransferState;
  /** Bytes of it that have been sent. */
  sent: number;
  problem: { title: string; detail: string } | null;
  /** What of the document is not in the index. */
  warnings: string[];
  job: string | null;
  /** How far its job is, in files. */
  read: { done: number; total: number };
  /** Whether it goes in a request of its own, as one with others was refused. */
  alone: boolean;
  /** Whether it failed for a reason that may have passed. */
  passing: boolean;
}

export interface Transfers {
  items: Transfer[];
  hidden: number;
  counts: Record<TransferState, number>;
  bytes: { sent: number; total: number };
  /** Whether something has still to be sent. */
  sending: boolean;
  /** Whether something has still to be read. */
  running: boolean;
  ended: number;
}

const AT_ONCE = 3;
const GROUP_FILES = 20;
const GROUP_BYTES = 8_000_000;
const MOST_JOBS = 30;
const WATCHED = 4;
const TRIES = 5;
/** What the file itself is the reason of: another try ends in the same way. */
const OF_THE_FILE = new Set(
  [
    "unsupported-document",
    "broken-document",
    "encrypted-document",
    "empty-document",
    "document-limit",
    "invalid-metadata",
    "invalid-name",
    "invalid-request",
    "too-large",
  ].map((name) => `urn:sluice:problem:${name}`),
);
const NOTIFY_MS = 120;
const WATCH_MS = 700;

const listeners = new Set<() => void>();
const snapshots = new Map<string, Transfers>();
const hiddenFiles = new Map<string, number>();
const jobs = new Map<string, Transfer[]>();
const requests = new Map<Transfer, AbortController>();
let transfers: Transfer[] = [];
let waiting: Transfer[] = [];
let active = 0;
let lastId = 0;
let watching = false;
let timer: ReturnType<typeof setTimeout> | null = null;

/** The uploads of one collection. They go on while other pages of the console are open. */
export function useTransfers(collection: string): Transfers {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => snapshot(collection),
  );
}

/** Whether uploads into a collection go on, wherever in the console they are looked at. */
export const useIsUploading = (collection: string): boolean => useTransfers(collection).running;

export function addTransfers(collection: string, chosen: Chosen[], hidden: number, options: UploadOptions): void {
  for (const { name, file, fault } of chosen) {
    const transfer: Transfer = {
      id: (lastId += 1),
      collection,
      name,
      size: file?.size ?? 0,
      options,
      file,
      state: file ? "waiting" : "failed",
      sent: 0,
      problem: file ? null : { title: "Not sent", detail: fault },
      warnings: [],
      job: null,
      read: { done: 0, total: 0 },
      alone: false,
      passing: false,
    };
    transfers.push(transfer);
    if (file) waiting.push(transfer);
  }
  hiddenFiles.set(collection, (hiddenFiles.get(collection) ?? 0) + hidden);
  changed();
  pump();
}

/** Send failed files once more. */
export function retryTransfers(which: Transfer[]): void {
  for (const transfer of which) {
    if (!mayTryAgain(transfer)) continue;
    Object.assign(transfer, { state: "waiting", sent: 0, passing: false, problem: null, job: null, warnings: [] });
    waiting.push(transfer);
  }
  changed();
  pump();
}

/** Stop what has not been sent. What has been is left to its job. */
export function cancelTransfers(which: Transfer[]): void {
  const chosen = new Set(which);
  waiting = waiting.filter((transfer) => !chosen.has(transfer));
  for (const transfer of which) {
    if (transfer.state !== "waiting" && transfer.state !== "sending") continue;
    transfer.state = "cancelled";
    requests.get(transfer)?.abort();
  }
  changed();
}

/** The jobs of these files that have not ended. */
export const openJobs = (collection: string): string[] =>
  [...jobs].filter(([, group]) => group[0]?.collection === collection).map(([id]) => id);

/** Forget what has ended. */
export function clearTransfers(collection: string): void {
  transfers = transfers.filter((one) => one.collection !== collection || !hasEnded(one));
  hiddenFiles.delete(collection);
  changed();
}

export const hasEnded = ({ state }: Transfer) => state === "done" || state === "failed" || state === "cancelled";

export const mayTryAgain = ({ state, file, passing }: Transfer) =>
  file !== null && (state === "cancelled" || (state === "failed" && passing));

function snapshot(collection: string): Transfers {
  const known = snapshots.get(collection);
  if (known) return known;
  const items = transfers.filter((one) => one.collection === collection);
  const counts = { waiting: 0, sending: 0, queued: 0, reading: 0, done: 0, failed: 0, cancelled: 0 };
  const bytes = { sent: 0, total: 0 };
  for (const one of items) {
    counts[one.state] += 1;
    if (one.state === "cancelled" || (one.file === null && one.state === "failed")) continue;
    bytes.total += one.size;
    bytes.sent += one.sent;
  }
  const sending = counts.waiting + counts.sending > 0;
  const made = {
    items,
    hidden: hiddenFiles.get(collection) ?? 0,
    counts,
    bytes,
    sending,
    running: sending || counts.queued + counts.reading > 0,
    ended: counts.done + counts.failed + counts.cancelled,
  };
  snapshots.set(collection, made);
  return made;
}

/** Progress comes many times a second, and a folder may have thousands of files. */
function changed(): void {
  timer ??= setTimeout(() => {
    timer = null;
    snapshots.clear();
    listeners.forEach((listener) => listener());
    guardLeaving();
  }, NOTIFY_MS);
}

const ask = (event: BeforeUnloadEvent) => event.preventDefault();

function guardLeaving(): void {
  const busy = transfers.some((one) => one.state === "waiting" || one.state === "sending");
  if (busy) window.addEventListener("beforeunload", ask);
  else window.removeEventListener("beforeunload", ask);
}

function pump(): void {
  while (active < AT_ONCE && jobs.size < MOST_JOBS && waiting.length > 0) {
    active += 1;
    void send(nextGroup()).finally(() => {
      active -= 1;
      changed();
      pump();
    });
  }
}

/** Small files go together: a request and a job for each of a thousand files would be slow. */
function nextGroup(): Transfer[] {
  const first = waiting[0]!;
  const group: Transfer[] = [];
  const names = new Set<string>();
  let size = 0;
  for (const one of waiting) {
    const fits = one.collection === first.collection && one.options === first.options && !names.has(one.name);
    if (group.length > 0 && (!fits || one.alone || first.alone || size + one.size > GROUP_BYTES)) break;
    group.push(one);
    names.add(one.name);
    size += one.size;
    if (group.length === GROUP_FILES) break;
  }
  waiting = waiting.slice(group.length);
  return group;
}

async function send(group: Transfer[]): Promise<void> {
  const controller = new AbortController();
  for (const one of group) {
    one.state = "sending";
    requests.set(one, controller);
  }
  changed();
  try {
    const job = await sendPatiently(group, controller.signal);
    for (const one of group) Object.assign(one, { state: "queued", sent: one.size, job });
    jobs.set(job, group);
    void watch();
  } catch (error) {
    if (controller.signal.aborted) again(group.filter((one) => one.state === "sending"));
    else await refused(group, problemOf(error));
  } finally {
    for (const one of group) requests.delete(one);
  }
}

async function sendPatiently(group: Transfer[], signal: AbortSignal): Promise<string> {
  const key = newKey();
  for (let tries = 1; ; tries += 1) {
    try {
      return await post(group, key, signal);
    } catch (error) {
      const problem = problemOf(error);
      const passing = [0, 429, 502, 503, 504, 507].includes(problem.status);
      if (!passing || tries === TRIES || signal.aborted || (await unreadable(group)).length > 0) throw error;
      await pause(Math.min(30, 2 ** tries) * 1000, signal);
    }
  }
}

const pause = (milliseconds: number, signal: AbortSignal) =>
  new Promise<void>((resolve) => {
    const wait = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(wait);
      resolve();
    });
  });

/** Only XMLHttpRequest says how much of a body has been sent. */
function post(group: Transfer[], key: string, signal: AbortSignal): Promise<string> {
  const { collection, options } = group[0]!;
  const form = new FormData();
  if (options.metadata) form.append("metadata", options.metadata);
  if (options.allowed) form.append("allowed", options.allowed);
  for (const one of group) form.append("files", one.file!, one.name);
  const size = group.reduce((sum, one) => sum + one.size, 0);
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", `/v1/collections/${encodeURIComponent(collection)}/documents`);
    for (const [name, value] of Object.entries(CONSOLE_HEADERS)) request.setRequestHeader(name, value);
    request.setRequestHeader("Idempotency-Key", key);
    request.responseType = "json";
    request.upload.onprogress = ({ loaded, total }) => {
      let left = total > 0 ? (loaded / total) * size : 0;
      for (const one of group) {
        one.sent = Math.min(one.size, left);
        left -= one.sent;
      }
      changed();
    };
    request.onload = () => {
      noteStatus(request.status);
      const body: unknown = request.response;
      if (request.status === 202) {
        resolve((body as { job: Job }).job.id);
        return;
      }
      const said = typeof body === "object" && body !== null ? body : {};
      reject(new RefusedError({ status: request.status, title: request.statusText, ...said }));
    };
    request.onerror = () => reject(UNREACHABLE);
    request.onabort = () => reject(new DOMException("", "AbortError"));
    signal.addEventListener("abort", () => request.abort());
    if (signal.aborted) request.abort();
    else request.send(form);
  });
}

/** A refused upload, with the document that the gateway names as the reason. */
class RefusedError extends ProblemError {
  readonly document: string | null;

  constructor(problem: ConstructorParameters<typeof ProblemError>[0] & { document?: unknown }) {
    super(problem);
    this.document = typeof problem.document === "string" ? problem.document : null;
  }
}

/** One file may be the reason why a request with others was refused: the others are sent again. */
async function refused(group: Transfer[], problem: ProblemError): Promise<void> {
  const gone = await unreadable(group);
  for (const one of gone) {
    const detail = "It has changed or gone since you chose it. Choose it again.";
    Object.assign(one, { state: "failed", file: null, problem: { title: "The file cannot be read", detail } });
  }
  const left = group.filter((one) => one.state === "sending");
  const named = problem instanceof RefusedError ? left.filter((one) => one.name === problem.document) : [];
  const about = { title: problem.title, detail: problem.message };
  const failed = { state: "failed", sent: 0, problem: about, passing: !OF_THE_FILE.has(problem.type) };
  if (gone.length > 0 && problem.status === 0) {
    again(left);
  } else if (named.length > 0) {
    for (const one of named) Object.assign(one, failed);
    again(left.filter((one) => one.state === "sending"));
  } else if (left.length > 1 && [400, 413, 415, 422].includes(problem.status)) {
    for (const one of left) one.alone = true;
    again(left);
  } else {
    for (const one of left) Object.assign(one, failed);
  }
}

function again(group: Transfer[]): void {
  for (const one of group) Object.assign(one, { state: "waiting", sent: 0 });
  waiting = [...group, ...waiting];
}

/** Those whose bytes the browser cannot get any more, which looks like a failure of the network. */
async function unreadable(group: Transfer[]): Promise<Transfer[]> {
  const looked = await Promise.all(
    group.map(async (one) => {
      try {
        await one.file?.slice(0, 1).arrayBuffer();
        return null;
      } catch {
        return one;
      }
    }),
  );
  return looked.filter((one) => one !== null);
}

/** Follow the oldest jobs: jobs end about in the order in which they were made. */
async function watch(): Promise<void> {
  if (watching) return;
  watching = true;
  while (jobs.size > 0) {
    await Promise.all([...jobs.keys()].slice(0, WATCHED).map(look));
    pump();
    if (jobs.size > 0) await new Promise((resolve) => setTimeout(resolve, document.hidden ? 5 * WATCH_MS : WATCH_MS));
  }
  watching = false;
}

async function look(id: string): Promise<void> {
  const group = jobs.get(id);
  if (!group) return;
  let job: Job;
  try {
    job = await read(api.GET("/v1/jobs/{job}", { params: { path: { job: id } } }));
  } catch (error) {
    const problem = problemOf(error);
    if (problem.status === 0 || problem.status >= 500) return;
    for (const one of group) {
      Object.assign(one, { state: "failed", passing: true, problem: { title: problem.title, detail: problem.message } });
    }
    jobs.delete(id);
    changed();
    return;
  }
  if (job.state === "running") {
    const { indexed = 0, skipped = 0, failed = 0, documents = 0 } = job.progress ?? {};
    for (const one of group) Object.assign(one, { state: "reading", read: { done: indexed + skipped + failed, total: documents } });
  }
  if (job.state === "succeeded" || job.state === "failed" || job.state === "cancelled") {
    jobs.delete(id);
    group.forEach((one) => settle(one, job));
  }
  changed();
}

function settle(one: Transfer, job: Job): void {
  const error = job.errors?.find((each) => each.document === one.name);
  if (error) {
    one.state = "failed";
    one.problem = { title: error.title, detail: error.detail };
    one.passing = !OF_THE_FILE.has(error.type);
  } else if (job.state === "succeeded") {
    one.state = "done";
    one.warnings = (job.warnings ?? []).filter((each) => each.document === one.name).map((each) => each.detail);
    one.file = null;
  } else if (job.state === "failed") {
    one.state = "failed";
    one.problem = { title: job.error?.title ?? "The job failed", detail: job.error?.detail ?? "" };
    one.passing = true;
  } else {
    one.state = "cancelled";
  }
}
