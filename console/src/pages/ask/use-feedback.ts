import { useCallback, useRef, useState } from "react";
import { sendFeedback, takesFeedback, type Feedback } from "../../api/feedback";
import { keepSaid, type Exchange, type Said } from "../../lib/conversations";
import { useSession } from "../../lib/session";

/** What a click or a form changes of what the reader has said. */
export type Change = Partial<Pick<Said, "rating" | "correction" | "comment" | "tags" | "sources">>;

/** What the page shows of a reader's words on one answer. */
export interface Voice {
  said: Said;
  sending: boolean;
  error: unknown;
  /** Whether the gateway has taken the change. */
  say: (change: Change) => Promise<boolean>;
}

interface Sending {
  change: Change;
  requests: number;
  error: unknown;
}

const NOTHING: Sending = { change: {}, requests: 0, error: null };

const nothingSaid = (answer: string): Said => ({ answer, rating: "", correction: "", comment: "", tags: [], sources: [], changedAt: 0 });

const saidOf = ({ answer, rating, correction, comment, tags, sources, changed_at }: Feedback): Said => ({
  answer,
  rating,
  correction,
  comment,
  tags: [...tags],
  sources: [...sources],
  changedAt: changed_at,
});

/** What the reader says of answers. A change is shown at once, and taken back where the gateway does not take it. */
export function useFeedback(conversation: string | undefined): (exchange: Exchange) => Voice | null {
  const taken = takesFeedback(useSession());
  const [sent, setSent] = useState<Record<string, Sending>>({});
  const last = useRef<Promise<unknown>>(Promise.resolve());

  const say = useCallback(
    async (exchange: Exchange, answer: string, change: Change): Promise<boolean> => {
      const update = (to: (before: Sending) => Sending) => setSent((all) => ({ ...all, [answer]: to(all[answer] ?? NOTHING) }));
      update((before) => ({ change: { ...before.change, ...change }, requests: before.requests + 1, error: null }));
      // One after the other, so that the last click is the last that the gateway hears of.
      const request = last.current.then(() => sendFeedback({ answer, ...change }));
      last.current = request.catch(() => undefined);
      let error: unknown = null;
      try {
        const feedback = await request;
        if (conversation !== undefined) keepSaid(conversation, exchange.id, saidOf(feedback));
      } catch (failure) {
        error = failure;
      }
      update((before) => {
        const requests = before.requests - 1;
        return { change: requests > 0 ? before.change : {}, requests, error: error ?? before.error };
      });
      return error === null;
    },
    [conversation],
  );

  return useCallback(
    (exchange) => {
      const answer = exchange.done?.id;
      if (!taken || !answer) return null; // it has not ended, or nobody would take it
      const known = exchange.said?.answer === answer ? exchange.said : nothingSaid(answer);
      const { change, requests, error } = sent[answer] ?? NOTHING;
      return { said: { ...known, ...change }, sending: requests > 0, error, say: (wanted) => say(exchange, answer, wanted) };
    },
    [taken, sent, say],
  );
}

const signalled = new Set<string>();

/** Tells the gateway what the reader does with an answer, once. The reader never hears of it. */
export function useSignals(): { opened: (exchange: Exchange, index: number) => void; copied: (exchange: Exchange) => void } {
  const taken = takesFeedback(useSession());
  const signal = (exchange: Exchange, name: string, change: { opened?: number[]; copied?: boolean }) => {
    const answer = exchange.done?.id;
    if (!taken || !answer || signalled.has(`${answer}.${name}`)) return;
    signalled.add(`${answer}.${name}`);
    sendFeedback({ answer, ...change }).catch(() => undefined);
  };
  return {
    opened: (exchange, index) => signal(exchange, `opened.${index}`, { opened: [index] }),
    copied: (exchange) => signal(exchange, "copied", { copied: true }),
  };
}
