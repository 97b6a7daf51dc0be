import createClient from "openapi-fetch";
import type { components, paths } from "./schema";

type Schemas = components["schemas"];

export type Collection = Schemas["Collection"];
export type CollectionVersion = Schemas["CollectionVersion"];
export type DocumentRecord = Schemas["Document"];
type Described = Schemas["Done"];
/** The gateway writes every member of it, and the description gives them defaults. */
export type Done = Required<Described> & {
  timings: Required<NonNullable<Described["timings"]>>;
  context: Required<NonNullable<Described["context"]>>;
};
export type Job = Schemas["Job"];
export type Source = Schemas["Source"];
export type Sources = Schemas["Sources"];
export type Status = Schemas["Status"];
export type Route = Schemas["Route"];
export type Session = Schemas["Session"];
export type Step = Schemas["Step"];
export type Schedule = Schemas["ScheduleBody"];
export type DeadLetter = Schemas["DeadLetter"];
export type ApiKey = Schemas["ApiKey"];
export type IssuedKey = Schemas["IssuedKey"];
export type Trace = Schemas["TraceBody"];
export type TraceEntry = Schemas["TraceEntry"];
export type Span = Schemas["SpanBody"];
export type UsageReport = Schemas["UsageReport"];
export type UsageRow = Schemas["UsageRow"];
export type UsageTotal = Schemas["UsageTotal"];
export type ServiceStatus = Schemas["ServiceStatus"];
export type StageStatus = Schemas["StageStatus"];
export type NewKey = Schemas["NewKey"];
export type Turn = Schemas["Turn"];
export type ProblemDetails = Schemas["ProblemDetails"];
export type Feedback = Schemas["Feedback"];
export type NewFeedback = Schemas["NewFeedback"];
export type KeptAnswer = Schemas["KeptAnswer"];
export type Comparison = Schemas["Comparison"];
export type SourceJudgement = Schemas["SourceJudgement"];
export type Rating = Feedback["rating"];
export type Action = Session["actions"][number];

/** What the gateway wants to see on each request of the console: pages of other sites cannot send it. */
export const CONSOLE_HEADERS = { "X-Sluice-Console": "1" } as const;

export const api = createClient<paths>({ headers: CONSOLE_HEADERS });

/** Longer than the gateway lets any of these requests wait; uploads and streams do not pass here. */
const LONGEST_MS = 150_000;

let signedOut: () => void = () => undefined;

/** What is to be done where the gateway no longer knows the session. */
export function onSignedOut(act: () => void): void {
  signedOut = act;
}

/** Every response of the gateway passes here, except those about the session itself. */
export function noteStatus(status: number): void {
  if (status === 401) signedOut();
}

api.use({
  onRequest: ({ request }) => new Request(request, { signal: AbortSignal.any([request.signal, AbortSignal.timeout(LONGEST_MS)]) }),
  onResponse: ({ response, schemaPath }) => {
    if (schemaPath !== "/v1/session") noteStatus(response.status);
  },
});

/** A request that failed, with the problem in the gateway's words. */
export class ProblemError extends Error {
  readonly title: string;
  readonly status: number;
  readonly type: string;
  readonly traceId: string | null;
  /** The members of the request that are wrong, where the gateway names them. */
  readonly errors: readonly { path: string; message: string }[];

  constructor(problem: Partial<ProblemDetails> & { trace_id?: unknown; errors?: unknown }) {
    super(problem.detail ?? "");
    this.title = problem.title || "The request failed";
    this.status = problem.status ?? 0;
    this.type = problem.type ?? "about:blank";
    this.traceId = typeof problem.trace_id === "string" ? problem.trace_id : null;
    this.errors = Array.isArray(problem.errors) ? problem.errors : [];
  }
}

export const UNREACHABLE = new ProblemError({
  title: "The gateway cannot be reached",
  detail: "Check that Sluice is running, and try again.",
});

const TOO_SLOW = new ProblemError({
  title: "The gateway does not answer",
  detail: "It may have too much to do, or be stopped. What was asked for may still be done.",
});

export function problemOf(error: unknown): ProblemError {
  if (error instanceof ProblemError) return error;
  if (error instanceof TypeError) return UNREACHABLE;
  if (isTimeout(error)) return TOO_SLOW;
  if (typeof error === "object" && error !== null && "title" in error) return new ProblemError(error as ProblemDetails);
  return new ProblemError({ title: "The request failed", detail: error instanceof Error ? error.message : String(error) });
}

const isTimeout = (error: unknown): boolean => error instanceof DOMException && error.name === "TimeoutError";

type Outcome<T> = { data?: T; error?: unknown; response: Response };

/** The body of a response. Throws ProblemError. */
export async function read<T>(request: Promise<Outcome<T>>): Promise<NonNullable<T>> {
  let outcome: Outcome<T>;
  try {
    outcome = await request;
  } catch (error) {
    throw error instanceof DOMException && !isTimeout(error) ? error : problemOf(error);
  }
  if (!outcome.response.ok) {
    const status = outcome.response.status;
    const known = typeof outcome.error === "object" && outcome.error !== null ? outcome.error : {};
    throw new ProblemError({ status, title: outcome.response.statusText, ...known });
  }
  return outcome.data as NonNullable<T>;
}
