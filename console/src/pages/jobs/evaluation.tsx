import { useQuery } from "@tanstack/react-query";
import { Link, useSearchParams } from "react-router";
import { api, read, type Job } from "../../api/client";
import { milliseconds, moment, plural } from "../../lib/format";
import { Loading, Problem } from "../../ui/basics";
import { useJob, useReport, type Changed, type Comparison, type Report } from "./data";
import { SwitchButton } from "./gate";
import { IntervalPlot, type Figure } from "./interval-plot";

const NAMES: Record<string, string> = {
  recall_at_1: "recall@1",
  recall_at_3: "recall@3",
  recall_at_5: "recall@5",
  recall_at_10: "recall@10",
  mrr: "MRR",
  ndcg_at_10: "nDCG@10",
  answer_f1: "answer F1",
  answer_similarity: "answer similarity",
  citation_precision: "citation precision",
  supported_sentences: "supported sentences",
  false_declined: "false declined",
  false_answered: "false answered",
};
const LOWER_IS_BETTER = ["false_declined", "false_answered"];

/** What an evaluation has found, and beside it another one. */
export function Evaluation({ job }: { job: Job }) {
  return job.kind === "tune" ? <Tuning job={job} /> : <Evaluated job={job} />;
}

function Evaluated({ job }: { job: Job }) {
  const [search] = useSearchParams();
  const report = useReport(job);
  const otherId = search.get("with") ?? "";
  const other = useJob(otherId, otherId !== "");
  const otherReport = useReport(other.data);
  if (job.state !== "succeeded") return null;
  const figures = figuresOf(job, report.data);
  const others = other.data ? figuresOf(other.data, otherReport.data) : null;
  const { questions = 0, failed = 0, latency_p50_ms: p50, latency_p95_ms: p95 } = (job.outputs ?? {}) as Record<string, number>;
  return (
    <section className="panel padded evaluation" aria-label="Report">
      <div className="section-head">
        <h2>Report</h2>
        <span className="spacer" />
        <OtherChoice job={job} />
      </div>
      <p className="faint">
        {plural(questions, "question")}
        {failed > 0 && `, ${failed} failed`}
        {p50 !== undefined && `, latency p50 ${milliseconds(p50)}`}
        {p95 !== undefined && `, p95 ${milliseconds(p95)}`}
        {typeof job.outputs?.["version"] === "string" && `, version ${job.outputs["version"]}`}
      </p>
      {report.isLoading && <Loading label="Reading the report" />}
      {report.error && <Problem error={report.error} retry={() => void report.refetch()} />}
      {other.error && <Problem error={other.error} />}
      <IntervalPlot series={[{ name: "This run", figures }, ...(others ? [{ name: "Other run", figures: others }] : [])]} />
      <FigureTable job={job} figures={figures} other={other.data} others={others} comparison={comparisonOf(report.data, otherId)} />
      {report.data?.comparison && <Changes comparison={report.data.comparison} />}
    </section>
  );
}

function figuresOf(job: Job, report: Report | undefined): Figure[] {
  const found = report?.metrics ?? (job.outputs as Record<string, number> | undefined) ?? {};
  return Object.keys(NAMES)
    .filter((name) => typeof found[name] === "number")
    .map((name) => {
      const interval = report?.intervals?.[name];
      return { name, label: NAMES[name] ?? name, value: found[name] ?? 0, low: interval?.low ?? null, high: interval?.high ?? null };
    });
}

/** The paired differences, where this run was compared with the chosen one as it ran. */
function comparisonOf(report: Report | undefined, other: string): Comparison | undefined {
  const comparison = report?.comparison;
  return comparison && (other === "" || comparison.baseline.startsWith(`${other}/`)) ? comparison : undefined;
}

function OtherChoice({ job }: { job: Job }) {
  const [search, setSearch] = useSearchParams();
  const runs = useQuery({
    queryKey: ["jobs", "evaluations", job.collection],
    queryFn: ({ signal }) =>
      read(
        api.GET("/v1/jobs", {
          params: { query: { kind: "evaluate", state: "succeeded", collection: job.collection ?? null, limit: 50 } },
          signal,
        }),
      ),
    staleTime: 30_000,
  });
  const chosen = search.get("with") ?? "";
  const found = (runs.data?.jobs ?? []).filter((run) => run.id !== job.id);
  return (
    <select
      aria-label="Compare with another run"
      value={chosen}
      onChange={(event) => {
        const next = new URLSearchParams(search);
        if (event.target.value) next.set("with", event.target.value);
        else next.delete("with");
        setSearch(next, { replace: true });
      }}
    >
      <option value="">Compare with another run</option>
      {chosen && !found.some((run) => run.id === chosen) && <option value={chosen}>{chosen}</option>}
      {found.map((run) => (
        <option key={run.id} value={run.id}>
          {moment(run.created_at)}, version {String(run.outputs?.["version"] ?? "?")}
        </option>
      ))}
    </select>
  );
}

interface TableProps {
  job: Job;
  figures: Figure[];
  other: Job | undefined;
  others: Figure[] | null;
  comparison: Comparison | undefined;
}

function FigureTable({ job, figures, other, others, comparison }: TableProps) {
  const versionOf = (run: Job) => (typeof run.outputs?.["version"] === "string" ? ` (${run.outputs["version"]})` : "");
  const compared = others !== null || comparison !== undefined;
  return (
    <>
      <div className="scroller" role="group" aria-label="Metrics" tabIndex={0}>
        <table className="compact figures">
          <thead>
            <tr>
              <th scope="col">Metric</th>
              <th scope="col" className="number">
                This run{versionOf(job)}
              </th>
              {other && (
                <th scope="col" className="number">
                  <Link to={`/jobs/${other.id}`}>Other run</Link>
                  {versionOf(other)}
                </th>
              )}
              {compared && (
                <th scope="col" className="number">
                  Difference
                </th>
              )}
            </tr>
          </thead>
          <tbody>
            {figures.map((figure) => {
              const before = others?.find((one) => one.name === figure.name);
              return (
                <tr key={figure.name}>
                  <th scope="row">{figure.label}</th>
                  <td className="number" data-label="This run">
                    <Value figure={figure} />
                  </td>
                  {other && <td className="number" data-label="Other run">{before ? <Value figure={before} /> : "–"}</td>}
                  {compared && (
                    <td className="number" data-label="Difference">
                      <Difference name={figure.name} figure={figure} before={before} paired={comparison?.differences[figure.name]} />
                    </td>
                  )}
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
      <p className="faint">
        Brackets hold 95 % confidence intervals over the questions.
        {comparison
          ? ` Differences are means over the ${plural(comparison.questions, "question")} that both runs have.`
          : others && " A difference without brackets may be chance. An evaluation that is compared with the other run as it runs has its interval too."}
      </p>
      {other && !comparison && (
        <p>
          <Link className="button" to={`/jobs/new?like=${job.id}&baseline=${encodeURIComponent(`${other.id}/report.json`)}`}>
            Evaluate again, compared with the other run
          </Link>
        </p>
      )}
    </>
  );
}

function Value({ figure }: { figure: Figure }) {
  return (
    <>
      {figure.value.toFixed(3)}
      {figure.low !== null && figure.high !== null && (
        <span className="faint interval">
          {" "}
          [{figure.low.toFixed(3)}, {figure.high.toFixed(3)}]
        </span>
      )}
    </>
  );
}

interface DifferenceProps {
  name: string;
  figure: Figure;
  before: Figure | undefined;
  paired: { mean: number; low: number; high: number } | undefined;
}

function Difference({ name, figure, before, paired }: DifferenceProps) {
  const mean = paired?.mean ?? (before ? figure.value - before.value : null);
  if (mean === null) return <>–</>;
  const sure = paired !== undefined && (paired.low > 0 || paired.high < 0);
  const better = LOWER_IS_BETTER.includes(name) ? mean < 0 : mean > 0;
  return (
    <span className={sure ? (better ? "good" : "bad") : ""}>
      {signed(mean)}
      {paired && (
        <span className="interval">
          {" "}
          [{signed(paired.low)}, {signed(paired.high)}]
        </span>
      )}
    </span>
  );
}

const signed = (value: number): string => `${value >= 0 ? "+" : "−"}${Math.abs(value).toFixed(3)}`;

const MOST_CHANGES = 50;

function Changes({ comparison }: { comparison: Comparison }) {
  const [job = ""] = comparison.baseline.split("/");
  return (
    <details className="more">
      <summary>
        {plural(comparison.better.length, "question")} better and {comparison.worse.length.toLocaleString("en")} worse than in the baseline
      </summary>
      <p className="faint">
        The baseline is the report of <Link to={`/jobs/${job}`}>{job}</Link>.
      </p>
      <ChangeList title="Worse" changes={comparison.worse} />
      <ChangeList title="Better" changes={comparison.better} />
    </details>
  );
}

function ChangeList({ title, changes }: { title: string; changes: Changed[] }) {
  if (changes.length === 0) return null;
  const rank = (value: number | null) => (value === null ? "not found" : `rank ${value}`);
  return (
    <>
      <h4>{title}</h4>
      <ul className="fault-list">
        {changes.slice(0, MOST_CHANGES).map((change, index) => (
          <li key={index}>
            <span dir="auto">{change.question}</span>
            <span className="faint">
              {rank(change.rank_before)} → {rank(change.rank)}
            </span>
          </li>
        ))}
      </ul>
      {changes.length > MOST_CHANGES && <p className="faint">And {changes.length - MOST_CHANGES} more, in report.json.</p>}
    </>
  );
}

/** The verdict of a tuning, and the version that it has built. */
function Tuning({ job }: { job: Job }) {
  const outputs = job.outputs ?? {};
  if (job.state !== "succeeded" || typeof outputs["better"] !== "boolean") return null;
  const version = typeof outputs["version"] === "string" ? outputs["version"] : "";
  const number = (name: string) => (typeof outputs[name] === "number" ? outputs[name] : 0);
  return (
    <section className="panel padded evaluation" aria-label="Report">
      <h2>Verdict</h2>
      <div className={`gate ${outputs["better"] ? "good" : "warn"}`}>
        <div>
          <strong>{outputs["better"] ? "The best trial is better than the default." : "The default stays."}</strong>
          {typeof outputs["message"] === "string" && <p dir="auto">{outputs["message"]}</p>}
        </div>
        {version && job.collection && outputs["live"] !== true && <SwitchButton collection={job.collection} version={version} />}
        {version && job.collection && outputs["live"] === true && <SwitchButton collection={job.collection} />}
      </div>
      <IntervalPlot
        signed
        series={[
          {
            name: "Difference of nDCG@10",
            figures: [
              { name: "difference", label: "best − default", value: number("difference"), low: number("difference_low"), high: number("difference_high") },
            ],
          },
        ]}
      />
    </section>
  );
}
