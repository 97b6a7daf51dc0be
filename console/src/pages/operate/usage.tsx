import { useQuery } from "@tanstack/react-query";
import { useState, type ReactNode } from "react";
import { api, read, type UsageReport, type UsageRow, type UsageTotal } from "../../api/client";
import { count, plural, printable } from "../../lib/format";
import { useMay, useSession } from "../../lib/session";
import { Button, Empty, Facts, Loading, PageHead, Problem } from "../../ui/basics";
import { UsageChart } from "./usage-chart";

const DIMENSIONS = { day: "Day", tenant: "Tenant", model: "Model", key: "Key" } as const;
type Dimension = keyof typeof DIMENSIONS;

const RANGES = [7, 30, 90] as const;
const EVERY_TENANT = "*";

/** Rows that are shown before somebody asks for more. */
const FEW = 100;

/** Requests, tokens and costs. */
export function UsagePage() {
  const seesAll = useMay("admin");
  const { tenant } = useSession();
  const [days, setDays] = useState<number>(30);
  const [by, setBy] = useState<Dimension>("day");
  const [everyTenant, setEveryTenant] = useState(seesAll);
  const scope = everyTenant || by === "tenant" ? EVERY_TENANT : tenant;
  const daily = useUsage("day", days, scope);
  const summed = useUsage(by, days, scope);
  const error = daily.error ?? summed.error;
  return (
    <>
      <PageHead title="Usage" lead="Answered requests, their tokens, and what they cost. Days are in UTC.">
        {seesAll && (
          <label className="choice">
            <span>Tenants</span>
            <select
              value={scope === EVERY_TENANT ? "all" : "own"}
              disabled={by === "tenant"}
              onChange={(event) => setEveryTenant(event.target.value === "all")}
            >
              <option value="all">all</option>
              <option value="own">{printable(tenant)}</option>
            </select>
          </label>
        )}
        <label className="choice">
          <span>Range</span>
          <select value={days} onChange={(event) => setDays(Number(event.target.value))}>
            {RANGES.map((range) => (
              <option key={range} value={range}>
                {range} days
              </option>
            ))}
          </select>
        </label>
      </PageHead>
      {error && <Problem error={error} retry={() => void Promise.all([daily.refetch(), summed.refetch()])} />}
      {!error && (!daily.data || !summed.data) && <Loading label="Summing up" />}
      {daily.data && summed.data && daily.data.total.requests === 0 && (
        <Empty icon="operate" title={`Nothing was answered in the last ${plural(days, "day")}`}>
          <p>Queries, chats, completions, embeddings and rerankings count once they are answered.</p>
          {daily.data.currency === null && <HowToPrice />}
        </Empty>
      )}
      {daily.data && summed.data && daily.data.total.requests > 0 && (
        <>
          <Totals report={daily.data} />
          <UsageChart report={daily.data} />
          <section className="panel" aria-label="Sums">
            <div className="toolbar">
              <label className="choice">
                <span>Sum by</span>
                <select value={by} onChange={(event) => setBy(event.target.value as Dimension)}>
                  {(Object.keys(DIMENSIONS) as Dimension[])
                    .filter((dimension) => dimension !== "tenant" || seesAll)
                    .map((dimension) => (
                      <option key={dimension} value={dimension}>
                        {DIMENSIONS[dimension].toLowerCase()}
                      </option>
                    ))}
                </select>
              </label>
            </div>
            <UsageTable key={by} report={summed.data} />
          </section>
          {daily.data.currency === null && (
            <div className="faint">
              <HowToPrice />
            </div>
          )}
        </>
      )}
    </>
  );
}

function useUsage(by: Dimension, days: number, tenant: string) {
  return useQuery({
    queryKey: ["usage", by, days, tenant],
    queryFn: () => read(api.GET("/v1/usage", { params: { query: { by, tenant, start: daysAgo(days - 1) } } })),
    refetchInterval: 30_000,
    placeholderData: (known) => known,
  });
}

/** A day in UTC, as the gateway counts them. */
const daysAgo = (days: number): string => new Date(Date.now() - days * 86_400_000).toISOString().slice(0, 10);

const HowToPrice = () => (
  <p>
    Costs need prices for a million tokens. Start the gateway with{" "}
    <code>{'SLUICE_PRICES={"my-model": {"prompt": 0.5, "completion": 1.5}}'}</code>.
  </p>
);

const COST = new Intl.NumberFormat("en", { minimumFractionDigits: 4, maximumFractionDigits: 4 });

function costOf({ cost }: UsageTotal): string {
  if (cost === null) return "–";
  return cost > 0 && cost < 0.0001 ? "< 0.0001" : COST.format(cost);
}

function Totals({ report }: { report: UsageReport }) {
  const { total, currency } = report;
  const facts: [string, ReactNode][] = [
    ["Requests", count(total.requests)],
    ["Prompt tokens", count(total.prompt_tokens)],
    ["Completion tokens", count(total.completion_tokens)],
  ];
  if (currency !== null) facts.push(["Cost", total.cost === null ? "–" : `${costOf(total)} ${printable(currency)}`]);
  return (
    <>
      <Facts facts={facts} />
      {currency !== null && total.unpriced_tokens > 0 && (
        <p className="faint">{plural(total.unpriced_tokens, "token")} of models without a price are not in the cost.</p>
      )}
    </>
  );
}

function UsageTable({ report }: { report: UsageReport }) {
  const [all, setAll] = useState(false);
  const by = report.by[0] as Dimension;
  const names = useKeyNames(by === "key");
  const rows = [...report.rows].sort(by === "day" ? newestFirst : mostFirst);
  const shown = all ? rows : rows.slice(0, FEW);
  return (
    <>
      <div className="scroller" tabIndex={0} role="group" aria-label="Usage, a table">
        <table className="compact usage-table">
          <thead>
            <tr>
              <th scope="col">{DIMENSIONS[by]}</th>
              <th scope="col" className="number wide-only">Requests</th>
              <th scope="col" className="number">Prompt tokens</th>
              <th scope="col" className="number wide-only" title="Prompt tokens that the engine had in its cache">Cached</th>
              <th scope="col" className="number">Completion tokens</th>
              {report.currency !== null && <th scope="col" className="number">Cost, {printable(report.currency)}</th>}
            </tr>
          </thead>
          <tbody>
            {shown.map((row) => (
              <tr key={row[by]}>
                <th scope="row">
                  <Value by={by} value={row[by] ?? ""} names={names} />
                </th>
                <td className="number wide-only">{count(row.requests)}</td>
                <td className="number">{count(row.prompt_tokens)}</td>
                <td className="number wide-only">{count(row.cached_tokens)}</td>
                <td className="number">{count(row.completion_tokens)}</td>
                {report.currency !== null && <td className="number nowrap">{costOf(row)}</td>}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {shown.length < rows.length && (
        <div className="centered">
          <Button kind="quiet" onClick={() => setAll(true)}>
            Show all {count(rows.length)}
          </Button>
        </div>
      )}
    </>
  );
}

const newestFirst = (one: UsageRow, other: UsageRow): number => (other.day ?? "").localeCompare(one.day ?? "");
const tokens = (row: UsageTotal): number => row.prompt_tokens + row.completion_tokens;
const mostFirst = (one: UsageRow, other: UsageRow): number =>
  (other.cost ?? 0) - (one.cost ?? 0) || tokens(other) - tokens(one) || other.requests - one.requests;

/** Names of keys by their ids, where the session may know them. */
export function useKeyNames(wanted: boolean): Map<string, string> {
  const may = useMay("admin");
  const keys = useQuery({
    queryKey: ["keys"],
    queryFn: () => read(api.GET("/v1/keys")),
    enabled: wanted && may,
    staleTime: 60_000,
  });
  return new Map(keys.data?.keys.map((key) => [key.id, key.name]) ?? []);
}

function Value({ by, value, names }: { by: Dimension; value: string; names: Map<string, string> }) {
  if (value === "") return <span className="faint">{by === "key" ? "without a key" : "not known"}</span>;
  const name = by === "key" ? names.get(value) : undefined;
  return (
    <span className="stage-name">
      <span dir="auto">{printable(name ?? value)}</span>
      {name !== undefined && <span className="faint mono">{printable(value)}</span>}
    </span>
  );
}
