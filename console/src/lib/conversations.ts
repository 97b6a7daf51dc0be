import { useEffect, useSyncExternalStore } from "react";
import { api, problemOf, read, type Done, type Rating, type Source, type SourceJudgement } from "../api/client";

/** What the reader has said of an answer, as the gateway has it. */
export interface Said {
  /** The id of the answer: one that is asked for again is another. */
  answer: string;
  rating: Rating;
  correction: string;
  comment: string;
  tags: string[];
  sources: SourceJudgement[];
  changedAt: number;
}

export interface Exchange {
  id: string;
  question: string;
  answer: string;
  sources: Source[];
  done: Done | null;
  problem: { title: string; detail: string; traceId?: string | null } | null;
  stopped: boolean;
  filter?: string;
  askedAt: number;
  said?: Said | null;
}

export interface Summary {
  id: string;
  title: string;
  collection: string;
  pipeline: string;
  changedAt: number;
}

export interface Conversation extends Summary {
  exchanges: Exchange[];
}

/** Where conversations are kept. What it shows is what it has by now; `listeners` hear of changes. */
interface Store {
  summaries(): Summary[];
  conversation(id: string): Conversation | undefined;
  /** Whether it is not known yet what a conversation holds. */
  pending(id: string): boolean;
  /** Why the last change was not kept, in words. */
  failure(): string;
  load(id: string): void;
  save(changed: Conversation): void;
  remove(id: string): void;
  clear(): void;
  /** Another store takes its place. */
  close(): void;
}

const text = (value: unknown) => (typeof value === "string" ? value : "");
const list = <T>(value: readonly T[] | undefined): T[] => (Array.isArray(value) ? [...value] : []);

function saidOf(kept: Partial<Said> | null | undefined): Said | null {
  if (!kept || !text(kept.answer)) return null;
  const { rating } = kept;
  return {
    answer: text(kept.answer),
    rating: rating === "up" || rating === "down" ? rating : "",
    correction: text(kept.correction),
    comment: text(kept.comment),
    tags: list(kept.tags).filter((tag) => typeof tag === "string"),
    sources: list(kept.sources).filter((one) => typeof one?.index === "number" && typeof one.relevant === "boolean"),
    changedAt: typeof kept.changedAt === "number" ? kept.changedAt : 0,
  };
}

/** An exchange as somebody kept it, perhaps another version of the console, with all that the page reads of one. */
function exchangeOf(kept: Partial<Exchange>, place: number): Exchange {
  const { done, problem } = kept;
  const lists: unknown[] = [done?.supported, done?.cited, done?.context?.dropped, done?.context?.shortened, done?.timings?.stages];
  const sources = Array.isArray(kept.sources) ? kept.sources : [];
  return {
    id: text(kept.id) || `${place}`,
    question: text(kept.question),
    answer: text(kept.answer),
    sources: sources.filter((source) => typeof source?.document === "string" && typeof source.text === "string" && Array.isArray(source.copies)),
    done: done && lists.every(Array.isArray) ? done : null,
    problem: problem ? { title: text(problem.title), detail: text(problem.detail), traceId: text(problem.traceId) } : null,
    stopped: kept.stopped === true,
    filter: text(kept.filter),
    askedAt: typeof kept.askedAt === "number" ? kept.askedAt : 0,
    said: saidOf(kept.said),
  };
}

function conversationOf(kept: Partial<Conversation>): Conversation {
  const text = (value: unknown) => (typeof value === "string" ? value : "");
  return {
    id: text(kept.id),
    title: text(kept.title),
    collection: text(kept.collection),
    pipeline: text(kept.pipeline),
    changedAt: typeof kept.changedAt === "number" ? kept.changedAt : 0,
    exchanges: Array.isArray(kept.exchanges) ? kept.exchanges.map(exchangeOf) : [],
  };
}

const listeners = new Set<() => void>();
const tell = () => listeners.forEach((listener) => listener());
let owner = "";
let store: Store = browserStore("");

/** Conversations are kept apart for each key and person, in this browser or on the server. */
export function openConversations(of: string, where: "browser" | "server"): void {
  const wanted = `${where}.${of}`;
  if (wanted === owner) return;
  owner = wanted;
  store.close();
  store = where === "server" ? serverStore() : browserStore(`sluice.conversations.${of}`);
}

const subscribe = (listener: () => void) => {
  listeners.add(listener);
  return () => void listeners.delete(listener);
};

export const useConversations = (): Summary[] => useSyncExternalStore(subscribe, () => store.summaries());

export const useConversationsFailure = (): string => useSyncExternalStore(subscribe, () => store.failure());

export function useConversation(id: string | undefined): { conversation: Conversation | undefined; pending: boolean } {
  useEffect(() => {
    if (id !== undefined) store.load(id);
  }, [id]);
  const conversation = useSyncExternalStore(subscribe, () => (id === undefined ? undefined : store.conversation(id)));
  const pending = useSyncExternalStore(subscribe, () => id !== undefined && store.pending(id));
  return { conversation, pending };
}

/** Those that were deleted here; the answer to a question in one may still be on its way. */
const deleted = new Set<string>();

export function saveConversation(changed: Conversation): void {
  if (!deleted.has(changed.id)) store.save(changed);
}

export function deleteConversation(id: string): void {
  deleted.add(id);
  store.remove(id);
}

export function deleteConversations(): void {
  for (const { id } of store.summaries()) deleted.add(id);
  store.clear();
}

const ended = (exchange: Exchange): boolean => exchange.done !== null || exchange.problem !== null || exchange.stopped;

/** An exchange with the last that was said of its answer, there or in another copy of it. */
function withLastSaid(exchange: Exchange, copy: Exchange): Exchange {
  const [own, other] = [exchange.said, copy.said].map((said) => (said && said.answer === exchange.done?.id ? said : null));
  const said = other && (!own || other.changedAt > own.changedAt) ? other : (own ?? null);
  return said === (exchange.said ?? null) ? exchange : { ...exchange, said };
}

/** The exchanges of both, each once, in the order in which they were asked. Of one in both, the last try that ended. */
function merged(mine: Conversation, theirs: Conversation): Conversation {
  const exchanges = new Map(theirs.exchanges.map((one) => [one.id, one]));
  for (const one of mine.exchanges) {
    const other = exchanges.get(one.id);
    if (!other) exchanges.set(one.id, one);
    else if (!ended(other) || (ended(one) && one.askedAt >= other.askedAt)) exchanges.set(one.id, withLastSaid(one, other));
    else exchanges.set(one.id, withLastSaid(other, one));
  }
  return { ...mine, exchanges: [...exchanges.values()].sort((a, b) => a.askedAt - b.askedAt) };
}

const MOST_IN_BROWSER = 60;

function browserStore(place: string): Store {
  const stored = (): Conversation[] => {
    try {
      const found: unknown = JSON.parse((place && localStorage.getItem(place)) || "[]");
      if (Array.isArray(found)) return found.map(conversationOf);
    } catch {
      // What cannot be read is written anew.
    }
    return [];
  };
  let conversations = stored();
  let kept = true;
  /** Another window keeps conversations in the same place. */
  const look = (event: StorageEvent) => {
    if (event.key !== place && event.key !== null) return;
    conversations = stored();
    tell();
  };
  if (place) window.addEventListener("storage", look);
  const write = (changed: Conversation[]) => {
    conversations = changed;
    kept = false;
    // Where the browser's store is full, the oldest conversation makes room.
    for (let most = changed.length; !kept && most >= 0; most--) {
      try {
        localStorage.setItem(place, JSON.stringify(changed.slice(0, most)));
        kept = true;
      } catch {
        if (most < 2) break;
      }
    }
    tell();
  };
  /** As they are now: another window may have kept one a moment ago. */
  const newest = () => (kept ? stored() : conversations);
  const without = (id: string) => newest().filter((one) => one.id !== id);
  return {
    summaries: () => conversations,
    conversation: (id) => conversations.find((one) => one.id === id),
    pending: () => false,
    failure: () => "",
    load: () => undefined,
    save: (changed) => {
      // What began before may have ended or been rated since.
      const other = newest().find((one) => one.id === changed.id);
      write([other ? merged(changed, other) : changed, ...without(changed.id)].slice(0, MOST_IN_BROWSER));
    },
    remove: (id) => write(without(id)),
    clear: () => write([]),
    close: () => window.removeEventListener("storage", look),
  };
}

const MOST_TRIES = 5;

/** The tag of what the server does not have. */
const NO_TAG = '"0"';

function serverStore(): Store {
  let summaries: Summary[] = [];
  let failure = "";
  const known = new Map<string, Conversation | null>();
  const tags = new Map<string, string>();
  const sending = new Set<string>();
  let writing: Promise<void> = Promise.resolve();

  const attempt = async (work: () => Promise<void>) => {
    try {
      await work();
      failure = "";
    } catch (error) {
      const problem = problemOf(error);
      failure = problem.message || problem.title;
    }
    tell();
  };
  /** Changes reach the server one after the other, in their order. */
  const then = (work: () => Promise<void>) => {
    writing = writing.then(() => attempt(work));
  };
  const note = (changed: Summary) => {
    summaries = [changed, ...summaries.filter((one) => one.id !== changed.id)];
    tell();
  };

  /** A conversation as the server has it, and null where it has none. */
  const fetched = async (id: string): Promise<Conversation | null> => {
    try {
      const request = api.GET("/v1/conversations/{conversation}", { params: { path: { conversation: id } } });
      const found = await read(request);
      tags.set(id, (await request).response.headers.get("ETag") ?? NO_TAG);
      const changedAt = summaries.find((one) => one.id === id)?.changedAt ?? 0;
      return { id, changedAt, ...found, exchanges: (found.exchanges as Partial<Exchange>[]).map(exchangeOf) };
    } catch (error) {
      if (problemOf(error).status !== 404) throw error;
      tags.set(id, NO_TAG);
      return null;
    }
  };
  /** Keep a conversation, unless the server has another than was read of it. */
  const put = async ({ id, title, collection, pipeline, exchanges }: Conversation) => {
    const params = { path: { conversation: id }, header: { "if-match": tags.get(id) ?? NO_TAG } };
    const body = { title, collection, pipeline, exchanges: exchanges as unknown as Record<string, never>[] };
    const request = api.PUT("/v1/conversations/{conversation}", { params, body });
    await read(request);
    tags.set(id, (await request).response.headers.get("ETag") ?? NO_TAG);
  };

  void attempt(async () => {
    const { conversations } = await read(api.GET("/v1/conversations"));
    const noted = new Set(summaries.map((one) => one.id));
    const listed = conversations.map(({ changed_at, ...one }) => ({ ...one, changedAt: changed_at }));
    summaries = [...summaries, ...listed.filter((one) => !noted.has(one.id))];
  });

  return {
    close: () => undefined,
    summaries: () => summaries,
    conversation: (id) => known.get(id) ?? undefined,
    pending: (id) => !known.has(id),
    failure: () => failure,
    load: (id) => {
      if (known.has(id) && !tags.has(id)) return; // begun or deleted here
      void attempt(async () => {
        const found = await fetched(id);
        const mine = known.get(id);
        // Here may be an exchange that the server has not got yet; the next write must not lose what it has.
        if (found) known.set(id, mine ? merged(mine, found) : found);
        else if (!sending.has(id)) known.set(id, null);
      });
    },
    save: (changed) => {
      const before = known.get(changed.id);
      known.set(changed.id, before ? merged(changed, before) : changed);
      note(changed);
      // A change that has not been sent yet is overtaken by this one.
      if (sending.has(changed.id)) return;
      sending.add(changed.id);
      then(async () => {
        sending.delete(changed.id);
        for (let tries = 1; ; tries++) {
          const mine = known.get(changed.id);
          if (!mine) return; // deleted meanwhile
          try {
            await put(mine);
            return;
          } catch (error) {
            if (problemOf(error).status !== 412 || tries === MOST_TRIES) throw error;
          }
          // Another browser has gone on with it.
          const theirs = await fetched(mine.id);
          const newest = known.get(mine.id);
          if (theirs && newest) known.set(mine.id, merged(newest, theirs));
        }
      });
    },
    remove: (id) => {
      known.set(id, null);
      tags.delete(id);
      summaries = summaries.filter((one) => one.id !== id);
      tell();
      then(async () => {
        await read(api.DELETE("/v1/conversations/{conversation}", { params: { path: { conversation: id } } }));
      });
    },
    clear: () => {
      known.clear();
      tags.clear();
      summaries = [];
      tell();
      then(async () => {
        await read(api.DELETE("/v1/conversations"));
      });
    },
  };
}

/** Keep what the reader has said of an answer with its exchange. */
export function keepSaid(conversation: string, exchange: string, said: Said): void {
  const known = store.conversation(conversation);
  if (!known) return;
  const exchanges = known.exchanges.map((one) => (one.id === exchange ? { ...one, said } : one));
  store.save({ ...known, exchanges, changedAt: Date.now() / 1000 });
}

export function asMarkdown(conversation: Conversation): string {
  return conversation.exchanges.map(exchangeMarkdown).join("\n\n---\n\n");
}

export function exchangeMarkdown(exchange: Exchange): string {
  const cited = new Set(exchange.done?.cited ?? []);
  const sources = exchange.sources
    .filter((source) => cited.has(source.index))
    .map((source) => `- [${source.index}] ${source.document}, passage ${source.position + 1}`);
  const parts = [`**${exchange.question}**`, exchange.answer];
  if (sources.length > 0) parts.push(`Sources\n\n${sources.join("\n")}`);
  return parts.join("\n\n");
}
