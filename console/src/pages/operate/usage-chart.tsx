import type { UsageReport } from "../../api/client";
import { count, printable } from "../../lib/format";

const WIDTH = 900;
const HEIGHT = 120;
const DAY = 86_400_000;

/** The tokens of each day as a bar: those of prompts below, those of answers on top. */
export function UsageChart({ report }: { report: UsageReport }) {
  const known = new Map(report.rows.map((row) => [row.day, row]));
  const days = daysBetween(report.start, report.end).map((day) => {
    const row = known.get(day);
    return { day, prompt: row?.prompt_tokens ?? 0, completion: row?.completion_tokens ?? 0 };
  });
  const most = Math.max(1, ...days.map((one) => one.prompt + one.completion));
  const step = WIDTH / days.length;
  const bar = Math.max(1, step - Math.min(4, step / 4));
  const height = (tokens: number) => (tokens / most) * HEIGHT;
  return (
    <figure className="usage-chart panel">
      <figcaption className="section-head">
        <h2>Tokens a day</h2>
        <ul className="legend">
          <li>
            <span className="swatch prompt-tokens" /> Prompts
          </li>
          <li>
            <span className="swatch completion-tokens" /> Completions
          </li>
        </ul>
        <span className="spacer" />
        <span className="faint">at most {count(most)}</span>
      </figcaption>
      <svg
        viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
        preserveAspectRatio="none"
        role="img"
        aria-label={`Tokens a day from ${report.start} to ${report.end}, at most ${count(most)}. The table has the numbers.`}
      >
        {days.map((one, index) => (
          <g key={one.day} transform={`translate(${(index * step).toFixed(2)} 0)`}>
            <title>{`${one.day}: ${count(one.prompt)} of prompts, ${count(one.completion)} of completions`}</title>
            <rect className="hover-area" width={step} height={HEIGHT} />
            <rect className="prompt-tokens" width={bar} height={height(one.prompt)} y={HEIGHT - height(one.prompt)} />
            <rect
              className="completion-tokens"
              width={bar}
              height={height(one.completion)}
              y={HEIGHT - height(one.prompt + one.completion)}
            />
          </g>
        ))}
      </svg>
      <p className="usage-days faint" aria-hidden="true">
        <span>{printable(report.start)}</span>
        <span>{printable(report.end)}</span>
      </p>
    </figure>
  );
}

function daysBetween(start: string, end: string): string[] {
  const first = Date.parse(start);
  const days = Math.round((Date.parse(end) - first) / DAY) + 1;
  return Array.from({ length: days }, (_, index) => new Date(first + index * DAY).toISOString().slice(0, 10));
}
