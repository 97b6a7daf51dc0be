import { useCallback, useEffect, useRef, useState } from "react";
import { Link, useNavigate, useParams, useSearchParams } from "react-router";
import {
  asMarkdown,
  deleteConversation,
  deleteConversations,
  useConversation,
  useConversations,
  useConversationsFailure,
  type Conversation,
  type Exchange,
  type Summary,
} from "../../lib/conversations";
import { ago, plural } from "../../lib/format";
import { useMay, useSession } from "../../lib/session";
import { Button, CopyButton, Empty, IconButton, Loading } from "../../ui/basics";
import { Confirm } from "../../ui/dialog";
import { Icon, Logo } from "../../ui/icon";
import { Composer, useCollections, useUsualCollection } from "./composer";
import { ExchangeView } from "./exchange";
import { SourcePanel } from "./source-panel";
import { useAnswer, type AskOptions } from "./use-answer";
import { useFeedback, useSignals } from "./use-feedback";

const newId = () => [...crypto.getRandomValues(new Uint8Array(9))].map((value) => value.toString(36).padStart(2, "0")).join("");

export function AskPage() {
  const { conversation: wanted } = useParams();
  const [search] = useSearchParams();
  const navigate = useNavigate();
  const conversations = useConversations();
  const { running, start, stop } = useAnswer();
  const [opened, setOpened] = useState<{ exchange: string; index: number } | null>(null);
  const [history, setHistory] = useState(false);
  const { conversation: kept, pending } = useConversation(wanted);
  const failure = useConversationsFailure();
  const conversation = running && running.id === wanted ? running : kept;
  const usual = useUsualCollection();
  const [chosen, setOptions] = useState<Omit<AskOptions, "collection"> & { collection: string | null }>(() => ({
    collection: search.get("collection") ?? kept?.collection ?? conversations[0]?.collection ?? null,
    pipeline: search.get("pipeline") ?? kept?.pipeline ?? "",
    filter: search.get("filter") ?? "",
    topK: 5,
    rerank: false,
  }));
  const options: AskOptions = { ...chosen, collection: chosen.collection ?? usual };
  const end = useRef<HTMLDivElement>(null);
  // What was said of the answers before is not in the conversation as it was when the question was asked.
  const said = new Map(kept?.exchanges.map((one) => [one.id, one.said]));
  const exchanges = (conversation?.exchanges ?? []).map((one) => (one.said === said.get(one.id) ? one : { ...one, said: said.get(one.id) ?? null }));
  const voiceOf = useFeedback(wanted);
  const signals = useSignals();
  const missing = wanted !== undefined && conversation === undefined && !pending;
  const last = exchanges.at(-1);

  useEffect(() => {
    document.title = `${conversation?.title ?? "Ask"} · Sluice`;
  }, [conversation?.title]);
  const forgotten = running !== null && !conversations.some((one) => one.id === running.id);
  useEffect(() => {
    if (forgotten) stop();
  }, [forgotten, stop]);
  useEffect(() => {
    setOpened(null);
    if (kept) setOptions((before) => ({ ...before, collection: kept.collection, pipeline: kept.pipeline }));
    // Only another conversation changes the choices.
  }, [wanted, kept === undefined]);
  useEffect(() => {
    if (last) end.current?.scrollIntoView({ block: "end" });
  }, [last?.id, last?.answer.length, last?.done]);

  const ask = (question: string, from: Conversation | undefined = conversation, again?: string) => {
    const base = from ?? { id: newId(), title: "", collection: "", pipeline: "", changedAt: 0, exchanges: [] };
    if (base.id !== wanted) void navigate(`/ask/${base.id}`);
    setOpened(null);
    void start(base, question, options, again);
  };
  const retry = () => {
    if (!conversation || !last) return;
    ask(last.question, { ...conversation, exchanges: exchanges.slice(0, -1) }, last.id);
  };
  const close = useCallback(() => setOpened(null), []);
  const openedIn = opened ? exchanges.find((one) => one.id === opened.exchange) : undefined;
  const shown = openedIn?.sources.find((one) => one.index === opened?.index);
  const reading = shown && openedIn?.done?.id;
  useEffect(() => {
    // An answer whose source is open before it ends is known to the gateway at its end.
    if (reading) signals.opened(openedIn, shown.index);
  }, [reading, shown?.index]);

  return (
    <div className={`ask ${shown ? "with-source" : ""}`}>
      <History conversations={conversations} current={wanted} open={history} onClose={() => setHistory(false)} />
      <section className="thread" aria-label="Conversation">
        <div className="thread-head">
          <IconButton label="Conversations" icon="history" className="history-button" onClick={() => setHistory(!history)} />
          <h1 dir="auto">{conversation?.title || "New conversation"}</h1>
          {exchanges.length > 0 && conversation && (
            <>
              <CopyButton text={() => asMarkdown(conversation)} label="Copy all" className="wide-only" />
              <Button icon="plus" kind="quiet" onClick={() => void navigate("/ask")}>
                New
              </Button>
            </>
          )}
        </div>
        <div className="exchanges" aria-live="polite">
          {failure && (
            <p className="note" role="alert">
              <Icon name="warning" size={16} /> Conversations are not kept at the moment: {failure}
            </p>
          )}
          {exchanges.length === 0 && pending && <Loading label="Reading the conversation" />}
          {missing && <NoConversation />}
          {exchanges.length === 0 && !pending && !missing && <Welcome collection={options.collection} />}
          {exchanges.map((exchange) => (
            <ExchangeView
              key={exchange.id}
              exchange={exchange}
              running={running?.id === wanted && exchange.id === last?.id}
              last={exchange.id === last?.id}
              opened={opened?.exchange === exchange.id ? opened.index : null}
              onCite={(index) => setOpened({ exchange: exchange.id, index })}
              onRetry={retry}
              onCopy={() => signals.copied(exchange)}
              voice={voiceOf(exchange)}
              link={() => linkTo(exchange, conversation)}
            />
          ))}
          <div ref={end} />
        </div>
        <Composer given={wanted ? "" : (search.get("question") ?? "")} options={options} onOptions={setOptions} busy={running !== null} onAsk={(question) => ask(question)} onStop={stop} />
      </section>
      {shown && <SourcePanel source={shown} collection={conversation?.collection ?? "default"} voice={voiceOf(openedIn!)} onClose={close} />}
    </div>
  );
}

/** Where somebody else may ask the same. */
function linkTo(exchange: Exchange, conversation: Conversation | undefined): string {
  const asked = new URLSearchParams({ question: exchange.question, collection: conversation?.collection ?? "default" });
  if (conversation?.pipeline) asked.set("pipeline", conversation.pipeline);
  if (exchange.filter) asked.set("filter", exchange.filter);
  return `${window.location.origin}/ask?${asked.toString()}`;
}

function NoConversation() {
  return (
    <Empty icon="ask" title="There is no such conversation">
      <p>
        It was deleted, or it is kept for somebody else or in another browser. Ask below to begin <Link to="/ask">a new one</Link>.
      </p>
    </Empty>
  );
}

function Welcome({ collection }: { collection: string }) {
  const mayRead = useMay("read");
  const mayWrite = useMay("write");
  const collections = useCollections(mayRead);
  const chosen = collections.data?.find((one) => one.name === collection);
  const empty = mayRead && collections.isSuccess && !chosen?.documents;
  return (
    <div className="welcome">
      <Logo />
      <h2>Ask your documents</h2>
      {chosen && chosen.documents > 0 ? (
        <p>
          Answers come from {plural(chosen.documents, "document")} of <strong>{chosen.name}</strong>, and name the passages
          that they rest on.
        </p>
      ) : (
        <p>Answers name the passages that they rest on.</p>
      )}
      {empty && (
        <>
          <p className="faint">This collection has no documents yet.</p>
          {mayWrite && (
            <p className="faint">
              Add some on the page <Link to="/documents">Documents</Link>, or with <code>sluice ingest PATH</code>.
            </p>
          )}
        </>
      )}
    </div>
  );
}

interface HistoryProps {
  conversations: Summary[];
  current: string | undefined;
  open: boolean;
  onClose: () => void;
}

function History({ conversations, current, open, onClose }: HistoryProps) {
  const navigate = useNavigate();
  const [clearing, setClearing] = useState(false);
  const kept = useSession().conversations;
  const go = (to: string) => {
    void navigate(to);
    onClose();
  };
  return (
    <nav className={`history ${open ? "open" : ""}`} aria-label="Conversations">
      <Button icon="plus" onClick={() => go("/ask")}>
        New conversation
      </Button>
      <ul>
        {conversations.map((one) => (
          <li key={one.id} className={one.id === current ? "current" : ""}>
            <button type="button" className="history-item" aria-current={one.id === current ? "page" : undefined} onClick={() => go(`/ask/${one.id}`)}>
              <span dir="auto">{one.title || "…"}</span>
              <span className="faint">
                {one.collection} · {ago(one.changedAt)}
              </span>
            </button>
            <IconButton
              label={`Delete the conversation ${one.title}`}
              icon="trash"
              onClick={() => {
                deleteConversation(one.id);
                if (one.id === current) go("/ask");
              }}
            />
          </li>
        ))}
      </ul>
      {conversations.length === 0 ? (
        <p className="faint">
          {kept === "server" ? "Conversations are kept on the server, for you alone." : "Conversations stay in this browser."}
        </p>
      ) : (
        <Button kind="quiet" icon="trash" onClick={() => setClearing(true)}>
          Delete all
        </Button>
      )}
      {clearing && (
        <Confirm
          title="Delete all conversations?"
          action="Delete all"
          onClose={() => setClearing(false)}
          onConfirm={async () => {
            deleteConversations();
            go("/ask");
          }}
        >
          <p>{kept === "server" ? "They are deleted from the server" : "They are in this browser alone"}, so they cannot be brought back.</p>
        </Confirm>
      )}
    </nav>
  );
}
