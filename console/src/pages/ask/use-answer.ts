import { useCallback, useEffect, useRef, useState } from "react";
import { problemOf, type Turn } from "../../api/client";
import { ask } from "../../api/stream";
import { saveConversation, type Conversation, type Exchange } from "../../lib/conversations";

export interface AskOptions {
  collection: string;
  pipeline: string;
  filter: string;
  topK: number;
  rerank: boolean;
}

/** The turns before a question, as the gateway wants them. */
function turns(exchanges: Exchange[]): Turn[] {
  return exchanges
    .filter((exchange) => exchange.answer !== "")
    .slice(-8)
    .flatMap((exchange): Turn[] => [
      { role: "user", content: exchange.question },
      { role: "assistant", content: exchange.answer },
    ]);
}

/** Why an answer ends that nobody has stopped: its reader has gone to another page of the console. */
const LEFT = "left";

let leaving = false;
window.addEventListener("pagehide", () => (leaving = true));
window.addEventListener("pageshow", () => (leaving = false));

const newExchangeId = () => crypto.getRandomValues(new Uint32Array(2)).join("");

/** Asks in a conversation: one answer at a time, which `stop` ends. An exchange that is tried again keeps its id. */
export function useAnswer() {
  const [running, setRunning] = useState<Conversation | null>(null);
  const controller = useRef<AbortController | null>(null);
  const stop = useCallback(() => controller.current?.abort(), []);
  useEffect(() => () => controller.current?.abort(LEFT), []);

  const start = useCallback(async (conversation: Conversation, question: string, options: AskOptions, id = newExchangeId()) => {
    controller.current?.abort();
    const own = new AbortController();
    controller.current = own;
    const exchange: Exchange = {
      id,
      question,
      answer: "",
      sources: [],
      done: null,
      problem: null,
      stopped: false,
      filter: options.filter.trim(),
      askedAt: Date.now() / 1000,
    };
    const at = (): Conversation => ({
      ...conversation,
      title: conversation.title || question.slice(0, 120),
      collection: options.collection,
      pipeline: options.pipeline,
      changedAt: Date.now() / 1000,
      exchanges: [...conversation.exchanges, { ...exchange }],
    });
    let drawn = 0;
    const draw = () => {
      drawn = drawn || requestAnimationFrame(() => ((drawn = 0), setRunning(at())));
    };
    setRunning(at());
    saveConversation(at());
    try {
      await ask(
        {
          question,
          messages: turns(conversation.exchanges),
          collection: options.collection,
          conversation: conversation.id,
          ...(options.pipeline ? { pipeline: options.pipeline } : {}),
          ...(options.filter.trim() ? { filter: JSON.parse(options.filter) as Record<string, unknown> } : {}),
          ...(options.rerank ? { rerank: true } : {}),
          top_k: options.topK,
        },
        {
          sources: (sources) => ((exchange.sources = sources), draw()),
          delta: (text) => ((exchange.answer += text), draw()),
          done: (done) => ((exchange.done = done), draw()),
        },
        own.signal,
      );
    } catch (error) {
      if (own.signal.aborted) exchange.stopped = own.signal.reason !== LEFT;
      // A browser that leaves the page ends its requests as if there were no gateway.
      else if (!leaving) {
        const problem = problemOf(error);
        exchange.problem = { title: problem.title, detail: problem.message, traceId: problem.traceId };
      }
    }
    cancelAnimationFrame(drawn);
    saveConversation(at());
    if (controller.current === own) setRunning(null);
  }, []);

  return { running, start, stop };
}
