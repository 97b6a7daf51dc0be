import { useQuery } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { Link, useParams } from "react-router";
import { api, read, type Comparison, type KeptAnswer, type Route, type Source } from "../../api/client";
import { count, milliseconds, percent, printable } from "../../lib/format";
import { useSeesEverything, useSession } from "../../lib/session";
import { Bar, Empty, Facts, Loading, PageHead, Problem, Time } from "../../ui/basics";
import { TraceLink } from "../../ui/trace-link";
import { KeepAnswers, NothingHere, SourceName, Turns } from "./feedback";
import { Older, useBefore } from "./older";
import { SideBySide } from "./side-by-side";

const PAGE = 10;

/** The ways from a route to the answers of its shadows. */
export function CompareLinks({ route }: { route: Route }) {
  const { feedback: taken } = useSession();
  const seesAll = useSeesEverything();
  const shadows = route.variants.filter((one) => one.shadow > 0);
  if (shadows.length === 0 || !seesAll) return null;
  if (!taken) {
    return (
      <div className="faint">
        <KeepAnswers>The answers of a shadow can be compared where the gateway keeps them.</KeepAnswers>
      </div>
    );
  }
  return (
    <div className="compare-line">
      {shadows.map(({ variant }) => (
        <Link key={variant} className="button" to={`/operate/routes/${encodeURIComponent(route.stage)}/${encodeURIComponent(variant)}`}>
          Compare answers{shadows.length > 1 && <span dir="auto"> of {printable(variant)}</span>}
        </Link>
      ))}
    </div>
  );
}

/** The answers of the live path beside those of a shadow. */
export function ComparePage() {
  const { stage = "", variant = "" } = useParams();
  const before = useBefore();
  const page = useQuery({
    queryKey: ["comparisons", stage, variant, before],
    queryFn: () => read(api.GET("/v1/comparisons", { params: { query: { stage, variant, limit: PAGE, before } } })),
    refetchInterval: before === undefined ? 30_000 : false,
    placeholderData: (known) => known,
  });
  const found = page.data?.comparisons ?? [];
  return (
    <>
      <PageHead
        title={`Answers of ${printable(stage)}/${printable(variant)}`}
        lead="Its shadow beside the answer that the reader got. Marked words are in one of the two alone."
      >
        <Link className="button" to="/operate/routes">
          All routes
        </Link>
      </PageHead>
      {page.error && <Problem error={page.error} retry={() => void page.refetch()} />}
      {page.isPending && <Loading label="Reading the answers" />}
      {page.data && found.length === 0 && <NoComparison stage={stage} variant={variant} older={before !== undefined} more={page.data.next !== null} />}
      <div className="entries">
        {found.map((pair) => (
          <Pair key={`${pair.live.id}.${pair.variant}`} pair={pair} />
        ))}
      </div>
      {page.data && <Older label="Pages of answers" next={page.data.next} busy={page.isPlaceholderData} />}
    </>
  );
}

function NoComparison({ stage, variant, older, more }: { stage: string; variant: string; older: boolean; more: boolean }) {
  const { feedback: taken } = useSession();
  if (more) return <NothingHere />;
  if (older) return <Empty icon="history" title="There is nothing older" />;
  return (
    <Empty icon="operate" title="There are no answers to compare yet">
      {!taken && <KeepAnswers>The gateway keeps no answers now.</KeepAnswers>}
      <p>
        Give <strong dir="auto">{printable(variant)}</strong> a shadow percentage in the{" "}
        <Link to="/operate/routes">route of {printable(stage)}</Link>. Queries that are asked from then on show here, once both have answered.
      </p>
    </Empty>
  );
}

function Pair({ pair }: { pair: Comparison }) {
  const { live, shadow, stage, variant } = pair;
  const used = live.timings.stages.find((one) => one.stage === stage)?.variant ?? "default";
  return (
    <article className="panel entry" aria-label={`Answers to ${printable(live.question)}`}>
      <div className="entry-head">
        <span className="faint">
          <Time at={live.asked_at} />
          {live.collection && (
            <>
              {" "}
              in <span dir="auto">{printable(live.collection)}</span>
            </>
          )}
        </span>
      </div>
      <h2 dir="auto">{printable(live.question) || "No question"}</h2>
      <Turns messages={live.messages} />
      <div className="overlaps">
        <Overlap label="Words in common" share={pair.text_overlap} title="F1 of the words of both answers" />
        {live.answer === shadow.answer && <span className="pill good">The same text</span>}
        <Overlap label="Sources in common" share={pair.source_overlap} title="Jaccard index of the sources of both answers" />
      </div>
      <SideBySide
        one={{ title: <>Live: {printable(used)}</>, text: live.answer, children: <Origin answer={live} pair={pair} /> }}
        other={{ title: <>Shadow: {printable(variant)}</>, text: shadow.answer, children: <Origin answer={shadow} pair={pair} /> }}
      />
    </article>
  );
}

function Overlap({ label, share, title }: { label: string; share: number; title: string }) {
  return (
    <span title={title}>
      {label} <Bar share={share} label={label} /> {percent(share)}
    </span>
  );
}

const passageOf = ({ document, document_id, position }: Source): string => `${document_id || document}#${position}`;

/** What one answer of a pair rests on and what it took. */
function Origin({ answer, pair: { stage, live, shadow } }: { answer: KeptAnswer; pair: Comparison }) {
  const others = new Set((answer === live ? shadow : live).sources.map(passageOf));
  const facts: [string, ReactNode][] = [];
  if (answer.confidence != null) facts.push(["Confidence", percent(answer.confidence)]);
  const time = milliseconds(answer.timings.total_ms);
  facts.push(["Time", answer.trace_id ? <TraceLink id={answer.trace_id}>{time}</TraceLink> : time]);
  const hop = answer.timings.stages.find((one) => one.stage === stage);
  if (hop) facts.push([`In ${printable(stage)}`, <span title={`After a wait of ${milliseconds(hop.waited_ms)}`}>{milliseconds(hop.worked_ms)}</span>]);
  facts.push(["Tokens", <span title="Of the prompt and of the answer">{`${count(answer.usage.prompt_tokens)} + ${count(answer.usage.completion_tokens)}`}</span>]);
  if (answer.model || answer.engine) facts.push(["Model", printable(answer.model || answer.engine)]);
  return (
    <>
      <ul className="source-list" aria-label="Sources">
        {answer.sources.map((source) => (
          <li key={source.index}>
            <span className="citation static">{source.index}</span>
            <SourceName source={source} collection={live.collection} />
            {others.has(passageOf(source)) && <span className="pill">in both</span>}
          </li>
        ))}
      </ul>
      <Facts facts={facts} />
    </>
  );
}
