import { exchangeMarkdown, type Exchange } from "../../lib/conversations";
import { milliseconds, percent, plural, printable } from "../../lib/format";
import { Bar, Button, CopyButton, Problem, Spinner } from "../../ui/basics";
import { ProblemError, type Done, type Source, type SourceJudgement } from "../../api/client";
import { Icon } from "../../ui/icon";
import { TraceLink } from "../../ui/trace-link";
import { AnswerFeedback, SourceJudge } from "./feedback";
import { AnswerText } from "./markdown";
import type { Voice } from "./use-feedback";

interface Props {
  exchange: Exchange;
  running: boolean;
  last: boolean;
  opened: number | null;
  onCite: (index: number) => void;
  onRetry: () => void;
  onCopy: () => void;
  /** What the reader says of the answer, null where nothing may be said. */
  voice: Voice | null;
  /** An address under which the question can be asked again. */
  link: () => string;
}

/** A question and its answer. */
export function ExchangeView({ exchange, running, last, opened, onCite, onRetry, onCopy, voice, link }: Props) {
  const { done, sources } = exchange;
  const unsupported = done?.supported.filter((sentence) => !sentence.supported).length ?? 0;
  return (
    <article className="exchange">
      <h2 className="question" dir="auto">
        {printable(exchange.question)}
      </h2>
      {running && exchange.answer === "" && (
        <p className="progress" role="status">
          <Spinner /> {sources.length > 0 ? `Reading ${plural(sources.length, "passage")}` : "Searching"}
        </p>
      )}
      {exchange.answer !== "" && (
        <div onCopy={onCopy}>
          <AnswerText text={exchange.answer} supported={done?.supported ?? []} onCite={onCite} known={sources.length} />
        </div>
      )}
      {exchange.stopped && <p className="note">You stopped this answer.</p>}
      {!running && !done && !exchange.problem && !exchange.stopped && <NoAnswer partly={exchange.answer !== ""} {...(last && exchange.answer === "" ? { onRetry } : {})} />}
      {exchange.problem && <Problem error={new ProblemError({ ...exchange.problem, trace_id: exchange.problem.traceId })} {...(last ? { retry: onRetry } : {})} />}
      {done && (
        <div className="verdict">
          {done.confidence != null && <Confidence value={done.confidence} />}
          {done.answerable === false && <span className="pill warn">The passages may not answer this</span>}
          {unsupported > 0 && (
            <span className="pill warn">
              <mark className="unsupported">marked</mark> {plural(unsupported, "sentence")} without support
            </span>
          )}
          {done.finish === "length" && <span className="pill warn">Cut off at its limit</span>}
        </div>
      )}
      {sources.length > 0 && <SourceChips sources={sources} done={done} opened={opened} onCite={onCite} judged={voice?.said.sources ?? []} />}
      {!running && voice && <AnswerFeedback key={voice.said.answer} exchange={exchange} voice={voice} />}
      {!running && (exchange.answer !== "" || exchange.stopped) && (
        <div className="exchange-tools">
          <CopyButton text={() => (onCopy(), exchangeMarkdown(exchange))} label="Copy as Markdown" />
          <CopyButton text={link} label="Copy link to the question" />
          {last && (
            <Button kind="quiet" icon="retry" onClick={onRetry}>
              Ask again
            </Button>
          )}
          {done && (
            <span className="faint">
              {done.trace_id ? <TraceLink id={done.trace_id}>{milliseconds(done.timings.total_ms)}</TraceLink> : milliseconds(done.timings.total_ms)} ·{" "}
              {done.model || done.engine}
            </span>
          )}
        </div>
      )}
      {done && <Searched exchange={exchange} done={done} onCite={onCite} voice={running ? null : voice} />}
    </article>
  );
}

/** The page was reloaded or left while the answer was written, or another window is about to get it. */
function NoAnswer({ partly, onRetry }: { partly: boolean; onRetry?: () => void }) {
  return (
    <div className="note">
      <span>
        {partly
          ? "This answer is not complete: the page was left while it was written."
          : "There is no answer: the page was left before it came, or another window waits for it."}
      </span>
      {onRetry && (
        <Button kind="quiet" icon="retry" onClick={onRetry}>
          Ask again
        </Button>
      )}
    </div>
  );
}

function Confidence({ value }: { value: number }) {
  const tone = value >= 0.6 ? "good" : value >= 0.3 ? "warn" : "bad";
  return (
    <span className={`pill ${tone}`} title="The probability that the best source answers the question">
      Confidence {percent(value)}
    </span>
  );
}

interface ChipProps extends Pick<Props, "opened" | "onCite"> {
  sources: Source[];
  done: Done | null;
  judged: SourceJudgement[];
}

function SourceChips({ sources, done, opened, onCite, judged }: ChipProps) {
  const marks = new Map(judged.map((one) => [one.index, one.relevant]));
  const cited = new Set(done?.cited ?? []);
  const shown = done ? sources.filter((source) => cited.has(source.index)) : sources;
  const listed = shown.length > 0 ? shown : sources.slice(0, 3);
  return (
    <ul className="chips" aria-label="Sources">
      {listed.map((source) => (
        <li key={source.index}>
          <button type="button" className="chip" aria-pressed={opened === source.index} onClick={() => onCite(source.index)}>
            <span className="citation static">{source.index}</span>
            <span className="chip-name" dir="auto">{printable(source.document)}</span>
            {marks.has(source.index) && <Mark relevant={marks.get(source.index) === true} />}
          </button>
        </li>
      ))}
    </ul>
  );
}

function Mark({ relevant }: { relevant: boolean }) {
  const words = relevant ? "belongs here" : "does not belong";
  return (
    <span className={`mark ${relevant ? "yes" : "no"}`} title={`You said that it ${words}`}>
      <Icon name={relevant ? "check" : "close"} size={14} />
      <span className="visually-hidden">{words}</span>
    </span>
  );
}

/** What was searched for, every passage that was found with its scores, and where the time went. */
function Searched({ exchange, done, onCite, voice }: Pick<Props, "exchange" | "onCite" | "voice"> & { done: Done }) {
  const cited = new Set(done.cited);
  const dropped = new Set(done.context.dropped);
  const shortened = new Set(done.context.shortened);
  const total = Math.max(done.timings.total_ms, 0.001);
  const question = done.searched?.question;
  return (
    <details className="searched">
      <summary>
        <Icon name="chevron" size={14} /> What was searched
      </summary>
      {question && question !== exchange.question && (
        <p>
          <span className="faint">Searched for</span> <q dir="auto">{printable(question)}</q>
        </p>
      )}
      {done.searched?.paraphrases.map((text) => (
        <p key={text}>
          <span className="faint">and for</span> <q dir="auto">{printable(text)}</q>
        </p>
      ))}
      <div className="scroller">
        <table className="compact">
          <thead>
            <tr>
              <th scope="col">#</th>
              <th scope="col">Passage</th>
              <th scope="col">Score</th>
              <th scope="col" className="number wide-only">Meaning</th>
              <th scope="col" className="number wide-only">Words</th>
              <th scope="col">Use</th>
              {voice && <th scope="col" className="wide-only">Belongs</th>}
            </tr>
          </thead>
          <tbody>
            {exchange.sources.map((source) => (
              <tr key={source.index}>
                <td>{source.index}</td>
                <td className="grow">
                  <button type="button" className="link" dir="auto" onClick={() => onCite(source.index)}>
                    {printable(source.document)} <span className="faint">#{source.position + 1}</span>
                  </button>
                </td>
                <td>
                  <span className="score">
                    <Bar share={source.score} label={`Score of source ${source.index}`} /> {percent(source.score)}
                  </span>
                </td>
                <td className="number wide-only">{source.similarity == null ? "–" : percent(source.similarity)}</td>
                <td className="number wide-only">{source.coverage == null ? "–" : percent(source.coverage)}</td>
                <td className="nowrap">
                  {cited.has(source.index) ? "cited" : dropped.has(source.index) ? "did not fit" : shortened.has(source.index) ? "shortened" : "read"}
                </td>
                {voice && (
                  <td className="wide-only">
                    <SourceJudge index={source.index} voice={voice} small />
                  </td>
                )}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <ul className="timings" aria-label="Time in each stage">
        {done.timings.stages.map((stage, index) => (
          <li key={`${stage.stage}.${index}`}>
            <span>{stage.branch ? `${stage.branch}: ${stage.stage}` : stage.stage}</span>
            <Bar share={(stage.waited_ms + stage.worked_ms) / total} label={`Time in ${stage.stage}`} />
            <span className="faint">
              {milliseconds(stage.worked_ms)}, waited {milliseconds(stage.waited_ms)}
            </span>
          </li>
        ))}
      </ul>
      {done.trace_id && (
        <p className="faint">
          Trace <TraceLink id={done.trace_id} />
        </p>
      )}
    </details>
  );
}
