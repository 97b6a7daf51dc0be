import { useQuery } from "@tanstack/react-query";
import { useMemo, useState, type CSSProperties, type ReactNode } from "react";
import { Link, useParams } from "react-router";
import { api, ProblemError, read, type Span, type Trace } from "../../api/client";
import { count, milliseconds, plural, printable } from "../../lib/format";
import { Button, CopyButton, Empty, Facts, IconButton, Loading, PageHead, Problem } from "../../ui/basics";
import { Icon } from "../../ui/icon";
import { errorWords, notesOf, treeOf, type Row } from "./waterfall";

const SHOWN = 300;
const SECONDS = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

/** One trace as a waterfall. */
export function TracePage() {
  const id = useParams()["trace"] ?? "";
  const trace = useQuery({
    queryKey: ["trace", id],
    queryFn: () => read(api.GET("/v1/traces/{id}", { params: { path: { id } } })),
    refetchInterval: (query) => (query.state.data && lasts(query.state.data) ? 2_000 : false),
  });
  return (
    <>
      <PageHead title="Trace" lead={<span className="mono trace-id">{printable(id)}</span>}>
        <Link className="button plain" to="/operate/traces">
          All traces
        </Link>
        {trace.data && <CopyButton label="Copy the id" text={() => trace.data.trace_id} />}
      </PageHead>
      {trace.isPending && <Loading label="Asking the services" />}
      {trace.error &&
        (trace.error instanceof ProblemError && trace.error.status === 404 ? (
          <Empty icon="history" title="This trace is not remembered">
            <p>{trace.error.message}</p>
            <Button icon="retry" onClick={() => void trace.refetch()}>
              Look again
            </Button>
          </Empty>
        ) : (
          <Problem error={trace.error} retry={() => void trace.refetch()} />
        ))}
      {trace.data && <Waterfall trace={trace.data} />}
    </>
  );
}

/** The job whose way it is. */
function jobOf(trace: Trace): string | null {
  const work = trace.spans.find((span) => span.name.startsWith("process job."));
  const id = work?.attributes["messaging.message.conversation_id"];
  return typeof id === "string" && id !== "" ? id : null;
}

const lasts = (trace: Trace): boolean => trace.spans.some((span) => span.ended_at === null);

function Waterfall({ trace }: { trace: Trace }) {
  const rows = useMemo(() => treeOf(trace), [trace]);
  const services = useMemo(() => [...new Set(trace.spans.map((span) => span.service))].sort(), [trace]);
  const failed = trace.spans.filter((span) => span.error !== null).length;
  const job = jobOf(trace);
  const [failedOnly, setFailedOnly] = useState(false);
  const [most, setMost] = useState(SHOWN);
  const listed = failedOnly ? rows.filter((row) => row.span.error !== null) : rows;
  return (
    <>
      <Facts
        facts={[
          ["Started", SECONDS.format(trace.started_at * 1000)],
          ["Duration", lasts(trace) ? <span className="pill info">running</span> : milliseconds(trace.duration_ms)],
          ["Spans", trace.omitted > 0 ? `${count(trace.spans.length)}, ${count(trace.omitted)} shorter ones left out` : count(trace.spans.length)],
          ["Failed", failed > 0 ? <span className="bad">{count(failed)}</span> : "none"],
          ...(job ? [["Job", <Link to={`/jobs/${encodeURIComponent(job)}`}>{printable(job)}</Link>] as [string, ReactNode]] : []),
        ]}
      />
      <div className="panel waterfall">
        <div className="toolbar">
          <ul className="legend" aria-label="Services">
            {services.map((service, index) => (
              <li key={service}>
                <span className={`swatch service-${index % 6}`} /> {printable(service)}
              </li>
            ))}
          </ul>
          <span className="spacer" />
          {failed > 0 && (
            <label className="check">
              <input type="checkbox" checked={failedOnly} onChange={(event) => setFailedOnly(event.target.checked)} /> Failed only
            </label>
          )}
        </div>
        <ol className="spans" aria-label="Spans in the order in which they began">
          {listed.slice(0, most).map((row) => (
            <SpanRow key={row.span.span_id} row={row} trace={trace} tint={services.indexOf(row.span.service) % 6} />
          ))}
        </ol>
        {listed.length > most && (
          <div className="centered">
            <Button kind="quiet" onClick={() => setMost(most + SHOWN)}>
              Show {count(Math.min(SHOWN, listed.length - most))} more
            </Button>
          </div>
        )}
      </div>
    </>
  );
}

function SpanRow({ row, trace, tint }: { row: Row; trace: Trace; tint: number }) {
  const { span, depth } = row;
  const [open, setOpen] = useState(false);
  const total = Math.max(trace.duration_ms, 0.001);
  const start = (span.started_at - trace.started_at) * 1000;
  const took = span.ended_at === null ? null : (span.ended_at - span.started_at) * 1000;
  const left = Math.max(0, Math.min(99.6, (100 * start) / total));
  const width = Math.max(0.4, Math.min(100 - left, (100 * (took ?? total - start)) / total));
  const notes = notesOf(span);
  return (
    <li className={`span ${span.error !== null ? "failed" : ""}`}>
      <button type="button" className="span-line" aria-expanded={open} onClick={() => setOpen(!open)}>
        <span className="span-name" style={{ "--depth": Math.min(depth, 10) } as CSSProperties}>
          <Icon name={open ? "down" : "chevron"} size={13} />
          <span className={`swatch service-${tint}`} />
          <span className="span-words">
            <span className="name" dir="auto">
              {printable(span.name)}
            </span>
            <span className="visually-hidden"> in {span.service},</span>
            {notes !== "" && (
              <span className="faint" dir="auto">
                {printable(notes)}
              </span>
            )}
            {span.error !== null && !notes.includes(errorWords(span.error)) && (
              <span className="bad span-error" dir="auto">
                {printable(errorWords(span.error))}
              </span>
            )}
          </span>
        </span>
        <span className="span-time">{took === null ? "running" : milliseconds(took)}</span>
        <span className="span-track" aria-hidden="true">
          <span className={`span-bar service-${tint} ${took === null ? "lasts" : ""}`} style={{ insetInlineStart: `${left}%`, inlineSize: `${width}%` }} />
        </span>
      </button>
      {open && <SpanDetails span={span} start={start} onClose={() => setOpen(false)} />}
    </li>
  );
}

function SpanDetails({ span, start, onClose }: { span: Span; start: number; onClose: () => void }) {
  const attributes = Object.entries(span.attributes).sort(([one], [other]) => one.localeCompare(other));
  return (
    <div className="span-details">
      <IconButton label="Close the details" icon="close" onClick={onClose} />
      <Facts
        facts={[
          ["Service", `${printable(span.service)} (${printable(span.instance)})`],
          ["Began", `after ${milliseconds(Math.max(0, start))}`],
          ["Kind", span.kind],
          ["Span", <code key="span">{span.span_id}</code>],
        ]}
      />
      {span.linked && <p className="faint">A batch of several traces, in which this one took part.</p>}
      {attributes.length > 0 && (
        <dl className="attributes">
          {attributes.map(([name, value]) => (
            <div key={name}>
              <dt>{printable(name)}</dt>
              <dd dir="auto">{printable(String(value))}</dd>
            </div>
          ))}
        </dl>
      )}
      {(span.events ?? []).length > 0 && (
        <>
          <h3>{plural(span.events!.length, "event")}</h3>
          <ul className="span-events">
            {span.events!.map((event, index) => (
              <li key={index}>
                <strong>{printable(event.name)}</strong>{" "}
                <span className="faint">after {milliseconds(Math.max(0, (event.at - span.started_at) * 1000))}</span>
                {Object.entries(event.attributes ?? {}).map(([name, value]) => (
                  <p key={name} dir="auto">
                    <span className="faint">{printable(name)}</span> {printable(String(value))}
                  </p>
                ))}
              </li>
            ))}
          </ul>
        </>
      )}
    </div>
  );
}
