import { CONSOLE_HEADERS, ProblemError, problemOf, type Done, type Rating, type Session, type Source, type SourceJudgement } from "./client";

export interface KeptAnswer extends Done {
  answer: string;
  sources: Source[];
  question: string;
  messages: Record<string, unknown>[];
  usage: { prompt_tokens: number; completion_tokens: number; cached_tokens: number };
  collection: string;
  asked_at: number;
  reader: string;
  key: string;
  stage: string;
  variant: string;
}

export interface Feedback {
  answer: string;
  reader: string;
  rating: Rating;
  correction: string;
  comment: string;
  tags: string[];
  sources: SourceJudgement[];
  opened: number[];
  copied: boolean;
  created_at: number;
  changed_at: number;
  kept: KeptAnswer;
}

export interface FeedbackPage {
  feedback: Feedback[];
  next: number | null;
}

export interface Comparison {
  stage: string;
  variant: string;
  text_overlap: number;
  source_overlap: number;
  live: KeptAnswer;
  shadow: KeptAnswer;
}

export interface ComparisonPage {
  comparisons: Comparison[];
  next: number | null;
}

export interface FeedbackChange {
  answer: string;
  rating?: Rating;
  correction?: string;
  comment?: string;
  tags?: string[];
  sources?: SourceJudgement[];
  opened?: number[];
  copied?: boolean;
}

export const takesFeedback = (session: Session): boolean => (session as Session & { feedback?: boolean }).feedback === true;

async function call<T>(path: string, init?: RequestInit): Promise<T> {
  const response = await fetch(path, { ...init, headers: { ...CONSOLE_HEADERS, "Content-Type": "application/json" } }).catch((error: unknown) => {
    throw problemOf(error);
  });
  if (!response.ok) throw new ProblemError({ status: response.status, ...((await response.json().catch(() => ({}))) as object) });
  return (await response.json()) as T;
}

export const sendFeedback = (change: FeedbackChange): Promise<Feedback> =>
  call("/v1/feedback", { method: "POST", body: JSON.stringify(change) });

const query = (values: Record<string, string | number | undefined>): string =>
  new URLSearchParams(Object.entries(values).flatMap(([name, value]) => (value === undefined ? [] : [[name, String(value)]]))).toString();

export const readFeedback = (values: { limit: number; before?: number; rating?: Rating }): Promise<FeedbackPage> =>
  call(`/v1/feedback?${query(values)}`);

export const readComparisons = (values: { stage: string; variant: string; limit: number; before?: number }): Promise<ComparisonPage> =>
  call(`/v1/comparisons?${query(values)}`);
