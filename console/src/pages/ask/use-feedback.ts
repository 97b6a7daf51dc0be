import { useCallback, useRef, useState } from "react";
import { api, read, type Feedback, type NewFeedback } from "../../api/client";
import { keepSaid, type Exchange, type Said } from "../../lib/conversations";
import { useSession } from "../../lib/session";

/** What a click or a form changes of what the reader has said; what it leaves out stays. */
export type Change = Partial<Pick<Said, "rating" | "correction" | "comment" | "tags"> & Pick<NewFeedback, "sources">>;

/** What the page shows of a reader's words on one answer. */
export interface Voice {
  said: Said;
  sending: boolean;
  error: unknown;
  /** Whether the gateway has taken the change. */
  say: (change: Change) => Promise<boolean>;
}

interface Sending {
  changes: Change[];
  requests: number;
  error: unknown;
}

const NOTHING: Sending = { changes: [], requests: 0, error: null };

const send = (feedback: NewFeedback): Promise<Feedback> => read(api.POST("/v1/feedback", { body: feedback }));

/** A judgement of null takes back what was said of the source. */
function changed(said: Said, { sources = [], ...change }: Change): Said {
  const named = new Set(sources.map((one) => one.index));
  const judged = sources.flatMap(({ index, relevant }) => (relevant === null ? [] : [{ index, relevant }]));
  return { ...said, ...change, sources: [...said.sources.filter((one) => !named.has(one.index)), ...judged] };
}

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
  const taken = useSession().feedback;
  const [sent, setSent] = useState<Record<string, Sending>>({});
  const last = useRef<Promise<unknown>>(Promise.resolve());

  const say = useCallback(
    async (exchange: Exchange, answer: string, change: Change): Promise<boolean> => {
      const update = (to: (before: Sending) => Sending) => setSent((all) => ({ ...all, [answer]: to(all[answer] ?? NOTHING) }));
      update((before) => ({ changes: [...before.changes, change], requests: before.requests + 1, error: null }));
      // One after the other, so that the last click is the last that the gateway hears of.
      const request = last.current.then(() => send({ answer, ...change }));
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
        return { changes: requests > 0 ? before.changes : [], requests, error: error ?? before.error };
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
      const { changes, requests, error } = sent[answer] ?? NOTHING;
      return { said: changes.reduce(changed, known), sending: requests > 0, error, say: (wanted) => say(exchange, answer, wanted) };
    },
    [taken, sent, say],
  );
}

const signalled = new Set<string>();

/** Tells the gateway what the reader does with an answer, once. The reader never hears of it. */
export function useSignals(): { opened: (exchange: Exchange, index: number) => void; copied: (exchange: Exchange) => void } {
  const taken = useSession().feedback;
  const signal = (exchange: Exchange, name: string, change: { opened?: number[]; copied?: boolean }) => {
    const answer = exchange.done?.id;
    if (!taken || !answer || signalled.has(`${answer}.${name}`)) return;
    signalled.add(`${answer}.${name}`);
    send({ answer, ...change }).catch(() => undefined);
  };
  return {
    opened: (exchange, index) => signal(exchange, `opened.${index}`, { opened: [index] }),
    copied: (exchange) => signal(exchange, "copied", { copied: true }),
  };
}
