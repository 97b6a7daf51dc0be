import { useQuery } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { Link, useSearchParams } from "react-router";
import { api, read, type Feedback, type KeptAnswer, type Rating, type Source } from "../../api/client";
import { plural, printable } from "../../lib/format";
import { useSeesEverything, useSession } from "../../lib/session";
import { tagWords } from "../../lib/tags";
import { Empty, Facts, Loading, PageHead, Problem, Time } from "../../ui/basics";
import { Icon, type IconName } from "../../ui/icon";
import { TraceLink } from "../../ui/trace-link";
import { Older, useBefore } from "./older";
import { useKeyNames } from "./usage";
import { Clipped, SideBySide } from "./side-by-side";

const PAGE = 20;

const RATINGS: Record<Rating, { words: string; icon: IconName | null; tone: string }> = {
  up: { words: "Good answer", icon: "good", tone: "good" },
  down: { words: "Poor answer", icon: "poor", tone: "bad" },
  "": { words: "Not rated", icon: null, tone: "" },
};

const FILTERS = { up: "good answers", down: "poor answers", none: "not rated" } as const;
type Filter = keyof typeof FILTERS;

const isFilter = (value: string | null): value is Filter => value !== null && value in FILTERS;

/** What readers say of answers. */
export function FeedbackPage() {
  const [search, setSearch] = useSearchParams();
  const wanted = search.get("rating");
  const rating = isFilter(wanted) ? wanted : undefined;
  const before = useBefore();
  const seesAll = useSeesEverything();
  const page = useQuery({
    queryKey: ["feedback", rating, before],
    queryFn: () => read(api.GET("/v1/feedback", { params: { query: { limit: PAGE, rating, before } } })),
    refetchInterval: before === undefined ? 30_000 : false,
    placeholderData: (known) => known,
  });
  const found = page.data?.feedback ?? [];
  const names = useKeyNames(found.length > 0);
  return (
    <>
      <PageHead title="Feedback" lead={seesAll ? "What readers say of answers, the last said first." : "What was said of your own answers, the last said first."}>
        <label className="choice">
          <span>Rating</span>
          <select value={rating ?? ""} onChange={(event) => setSearch(event.target.value ? { rating: event.target.value } : {})}>
            <option value="">all</option>
            {Object.entries(FILTERS).map(([value, words]) => (
              <option key={value} value={value}>
                {words}
              </option>
            ))}
          </select>
        </label>
      </PageHead>
      {page.error && <Problem error={page.error} retry={() => void page.refetch()} />}
      {page.isPending && <Loading label="Reading the feedback" />}
      {page.data && found.length === 0 && <NoFeedback filtered={rating !== undefined} older={before !== undefined} more={page.data.next !== null} />}
      <div className="entries">
        {found.map((one) => (
          <Entry key={`${one.answer}.${one.reader}`} feedback={one} reader={names.get(one.reader) ?? one.reader} />
        ))}
      </div>
      {page.data && <Older label="Pages of feedback" next={page.data.next} busy={page.isPlaceholderData} />}
    </>
  );
}

function NoFeedback({ filtered, older, more }: { filtered: boolean; older: boolean; more: boolean }) {
  const { feedback: taken } = useSession();
  if (more) return <NothingHere />;
  if (older) return <Empty icon="history" title="There is nothing older" />;
  if (filtered) return <Empty icon="search" title="There is no such feedback yet" />;
  return (
    <Empty icon="good" title="Nobody has said anything of an answer yet">
      {taken ? (
        <p>
          Readers rate and correct answers on the page <Link to="/ask">Ask</Link>.
        </p>
      ) : (
        <KeepAnswers>Readers can rate answers where the gateway keeps them.</KeepAnswers>
      )}
    </Empty>
  );
}

/** Of a page that the server ended early. */
export const NothingHere = () => (
  <Empty icon="history" title="There is nothing among the newer ones">
    <p>Look among older ones.</p>
  </Empty>
);

/** What to set so that answers are kept. */
export function KeepAnswers({ children }: { children: ReactNode }) {
  return (
    <p>
      {children} Start it with <code>SLUICE_KEEP_ANSWERS=true</code>.
    </p>
  );
}

function Entry({ feedback, reader }: { feedback: Feedback; reader: string }) {
  const { kept, correction, comment, rating } = feedback;
  const { words, icon, tone } = RATINGS[rating];
  const variants = [...new Set(kept.timings.stages.filter((one) => one.variant !== "default").map((one) => `${one.stage}/${one.variant}`))];
  const facts: [string, ReactNode][] = [];
  if (kept.collection) facts.push(["Collection", <span dir="auto">{printable(kept.collection)}</span>]);
  if (kept.model || kept.engine) facts.push(["Model", printable(kept.model || kept.engine)]);
  if (kept.timings.stages.length > 0) facts.push(["Variants", variants.length > 0 ? printable(variants.join(", ")) : "default"]);
  if (feedback.opened.length > 0) facts.push(["Opened", `${feedback.opened.length === 1 ? "source" : "sources"} ${feedback.opened.join(", ")}`]);
  if (feedback.copied) facts.push(["Copied", "the answer"]);
  return (
    <article className="panel entry" aria-label={`Feedback on ${printable(kept.question)}`}>
      <div className="entry-head">
        <span className={`pill ${tone}`}>
          {icon && <Icon name={icon} size={14} />}
          {words}
        </span>
        {feedback.tags.map((tag) => (
          <span key={tag} className="pill" dir="auto">
            {printable(tagWords(tag))}
          </span>
        ))}
        <span className="faint">
          {reader && (
            <>
              <span dir="auto" title={feedback.reader}>
                {printable(reader)}
              </span>
              ,{" "}
            </>
          )}
          <Time at={feedback.changed_at} />
        </span>
        {kept.trace_id && <TraceLink id={kept.trace_id}>Trace</TraceLink>}
      </div>
      <h2 dir="auto">{printable(kept.question) || "No question"}</h2>
      <Turns messages={kept.messages} />
      {correction ? (
        <SideBySide one={{ title: "Answer", text: kept.answer }} other={{ title: "Correction", text: correction }} corrected />
      ) : (
        <Clipped length={kept.answer.length}>
          <p className="plain-text" dir="auto">
            {printable(kept.answer)}
          </p>
        </Clipped>
      )}
      {comment && (
        <blockquote className="comment" dir="auto">
          {printable(comment)}
        </blockquote>
      )}
      <Judged feedback={feedback} />
      {facts.length > 0 && <Facts facts={facts} />}
    </article>
  );
}

/** The turns before the question. */
export function Turns({ messages }: Pick<KeptAnswer, "messages">) {
  const turns = messages.filter((turn) => typeof turn["content"] === "string");
  if (turns.length === 0) return null;
  return (
    <details>
      <summary>{plural(turns.length, "turn")} before it</summary>
      <ul className="turns">
        {turns.map((turn, place) => (
          <li key={place} dir="auto">
            <span className="faint">{turn["role"] === "user" ? "Question" : "Answer"}</span> {printable(String(turn["content"]))}
          </li>
        ))}
      </ul>
    </details>
  );
}

function Judged({ feedback }: { feedback: Feedback }) {
  const { sources, kept } = feedback;
  if (sources.length === 0) return null;
  const known = new Map(kept.sources.map((source) => [source.index, source]));
  return (
    <ul className="source-list" aria-label="Sources judged">
      {sources.map(({ index, relevant }) => {
        const source = known.get(index);
        return (
          <li key={index}>
            <span className={`verdict-words ${relevant ? "good" : "bad"}`}>
              <Icon name={relevant ? "check" : "close"} size={15} /> {relevant ? "belongs" : "does not belong"}
            </span>
            <span className="citation static">{index}</span>
            {source ? <SourceName source={source} collection={kept.collection} /> : <span className="faint">not among the sources</span>}
          </li>
        );
      })}
    </ul>
  );
}

/** A source by its document and passage, with the way to it. */
export function SourceName({ source, collection }: { source: Source; collection: string }) {
  const name = (
    <>
      <span dir="auto">{printable(source.document)}</span> <span className="faint">#{source.position + 1}</span>
    </>
  );
  if (!source.document_id || !collection) return <span className="name">{name}</span>;
  return (
    <Link className="name" to={`/documents/${encodeURIComponent(collection)}/${source.document_id}?passage=${source.position + 1}`}>
      {name}
    </Link>
  );
}
