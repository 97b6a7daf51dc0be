import { useQuery } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";
import { Link, useNavigate } from "react-router";
import { api, read, type TraceEntry } from "../../api/client";
import { count, milliseconds, printable } from "../../lib/format";
import { Bar, Button, Empty, Loading, PageHead, Problem, Time } from "../../ui/basics";
import { errorWords } from "./waterfall";

const FEW = 50;
const MOST = 200;

type Order = "newest" | "slowest";

/** The latest traces, and the way to one by its id. */
export function TracesPage() {
  const [limit, setLimit] = useState(FEW);
  const [failed, setFailed] = useState(false);
  const [order, setOrder] = useState<Order>("newest");
  const traces = useQuery({
    queryKey: ["traces", limit],
    queryFn: () => read(api.GET("/v1/traces", { params: { query: { limit } } })),
    refetchInterval: 5_000,
    placeholderData: (known) => known,
  });
  const found = traces.data?.traces ?? [];
  const listed = found.filter((trace) => !failed || trace.error !== null);
  if (order === "slowest") listed.sort((one, other) => lasting(other) - lasting(one));
  return (
    <>
      <PageHead title="Traces" lead="Where the time of a query or a job went, as the services remember it." />
      <Search />
      {traces.error && <Problem error={traces.error} retry={() => void traces.refetch()} />}
      {traces.isPending && <Loading label="Asking the services" />}
      {traces.data && found.length === 0 && (
        <Empty icon="history" title="No traces yet">
          <p>Ask a question or put documents in. Services forget a trace after some minutes and when they restart.</p>
        </Empty>
      )}
      {found.length > 0 && (
        <div className="panel">
          <div className="toolbar">
            <label className="check">
              <input type="checkbox" checked={failed} onChange={(event) => setFailed(event.target.checked)} /> Failed only
            </label>
            <span className="spacer" />
            <label className="choice">
              <span>Order</span>
              <select value={order} onChange={(event) => setOrder(event.target.value as Order)}>
                <option value="newest">newest first</option>
                <option value="slowest">slowest first</option>
              </select>
            </label>
          </div>
          {listed.length === 0 ? (
            <Empty icon="check" title={`None of the latest ${count(found.length)} traces has failed`} />
          ) : (
            <TraceTable traces={listed} />
          )}
          {found.length >= limit && limit < MOST && (
            <div className="centered">
              <Button kind="quiet" busy={traces.isFetching && limit > FEW} onClick={() => setLimit(MOST)}>
                Show more
              </Button>
            </div>
          )}
        </div>
      )}
    </>
  );
}

const lasting = (trace: TraceEntry): number => trace.duration_ms ?? Infinity;

function Search() {
  const navigate = useNavigate();
  const [id, setId] = useState("");
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (id.trim()) void navigate(`/operate/traces/${encodeURIComponent(id.trim())}`);
  };
  return (
    <form className="trace-search" role="search" onSubmit={submit}>
      <input
        type="search"
        aria-label="Id of a trace, a query or a job"
        placeholder="Id of a trace, a query or a job"
        value={id}
        maxLength={64}
        onChange={(event) => setId(event.target.value)}
      />
      <Button type="submit" icon="search" disabled={id.trim() === ""}>
        Open
      </Button>
    </form>
  );
}

function TraceTable({ traces }: { traces: TraceEntry[] }) {
  const longest = Math.max(1, ...traces.map((trace) => trace.duration_ms ?? 0));
  return (
    <div className="scroller">
      <table className="compact trace-list">
        <thead>
          <tr>
            <th scope="col">Trace</th>
            <th scope="col">Started</th>
            <th scope="col">Duration</th>
            <th scope="col" className="number wide-only">Spans</th>
            <th scope="col" className="wide-only">Services</th>
          </tr>
        </thead>
        <tbody>
          {traces.map((trace) => (
            <tr key={trace.trace_id}>
              <td className="grow">
                <Link to={`/operate/traces/${trace.trace_id}`} className="name">
                  {printable(trace.name)}
                </Link>
                <span className="faint mono trace-of">{printable(trace.id)}</span>
                {trace.error !== null && (
                  <span className="bad trace-error" dir="auto">
                    {printable(errorWords(trace.error))}
                  </span>
                )}
              </td>
              <td className="nowrap">
                <Time at={trace.started_at} />
              </td>
              <td className="nowrap">
                {trace.duration_ms === null ? (
                  <span className="pill info">running</span>
                ) : (
                  <span className="score">
                    <span className="wide-only">
                      <Bar share={trace.duration_ms / longest} label={`Duration of ${trace.name}`} tone={trace.error === null ? "info" : "bad"} />
                    </span>{" "}
                    {milliseconds(trace.duration_ms)}
                  </span>
                )}
              </td>
              <td className="number wide-only">{count(trace.spans)}</td>
              <td className="wide-only faint nowrap">{trace.services.map(printable).join(", ")}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
