import { CONSOLE_HEADERS, noteStatus, ProblemError, problemOf, type Done, type Source, type Turn } from "./client";

export interface Question {
  question: string;
  messages: Turn[];
  collection: string;
  conversation: string;
  pipeline?: string;
  filter?: Record<string, unknown>;
  top_k?: number;
  rerank?: boolean;
}

export interface AnswerEvents {
  sources(sources: Source[]): void;
  delta(text: string): void;
  done(done: Done): void;
}

/** Asks, and hands on each event of the answer. Throws ProblemError, or the AbortError of the signal. */
export async function ask(question: Question, events: AnswerEvents, signal: AbortSignal): Promise<void> {
  const response = await fetch("/v1/query", {
    method: "POST",
    headers: { ...CONSOLE_HEADERS, "Content-Type": "application/json", Accept: "text/event-stream" },
    body: JSON.stringify({ ...question, stream: true }),
    signal,
  }).catch((error: unknown) => {
    throw signal.aborted ? error : problemOf(error);
  });
  noteStatus(response.status);
  if (!response.ok || response.body === null) {
    throw new ProblemError({ status: response.status, ...((await response.json().catch(() => ({}))) as object) });
  }
  let ended = false;
  try {
    for await (const { event, data } of serverSentEvents(response.body)) {
      const body: unknown = JSON.parse(data);
      if (event === "sources") events.sources([...((body as { sources: Source[] }).sources ?? [])]);
      else if (event === "delta") events.delta((body as { text: string }).text);
      else if (event === "done") {
        ended = true;
        events.done(body as Done);
      } else if (event === "error") throw new ProblemError(body as object);
    }
  } catch (error) {
    // A connection that is cut is a TypeError; the gateway was reached.
    if (!(error instanceof TypeError) || signal.aborted) throw error;
  }
  if (!ended) {
    throw new ProblemError({ title: "The answer broke off", detail: "The connection to the gateway ended early. Ask again." });
  }
}

export async function* serverSentEvents(body: ReadableStream<Uint8Array>): AsyncGenerator<{ event: string; data: string }> {
  const reader = body.pipeThrough(new TextDecoderStream() as unknown as TransformStream<Uint8Array, string>).getReader();
  let buffer = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      buffer += value;
      let end: number;
      while ((end = buffer.indexOf("\n\n")) >= 0) {
        const lines = buffer.slice(0, end).split("\n");
        buffer = buffer.slice(end + 2);
        const data = lines.filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart());
        const event = lines.find((line) => line.startsWith("event:"))?.slice(6).trim() ?? "message";
        if (data.length > 0) yield { event, data: data.join("\n") };
      }
    }
  } finally {
    reader.cancel().catch(() => undefined);
  }
}
