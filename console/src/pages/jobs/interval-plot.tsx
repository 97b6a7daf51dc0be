import { useRef } from "react";
import { useWidth } from "./use-width";

export interface Figure {
  name: string;
  label: string;
  value: number;
  low: number | null;
  high: number | null;
}

export interface Series {
  name: string;
  figures: Figure[];
}

const ROW = 30;
const LABEL = 136;
const WIDEST = 680;
const RIGHT = 16;
const TOP = 8;

/** Means with their confidence intervals, one metric a row. The table beside it has the same figures as text. */
export function IntervalPlot({ series, signed = false }: { series: Series[]; signed?: boolean }) {
  const frame = useRef<HTMLElement>(null);
  const room = useWidth(frame);
  const width = Math.min(WIDEST, room || WIDEST);
  const names = [...new Set(series.flatMap((one) => one.figures.map((figure) => figure.name)))];
  if (names.length === 0) return null;
  const [from, to] = signed ? rangeOf(series) : [0, 1];
  const height = TOP + names.length * ROW + 24;
  const x = (value: number) => LABEL + ((value - from) / (to - from)) * (width - LABEL - RIGHT);
  const ticks = signed ? [from, 0, to] : [0, 0.25, 0.5, 0.75, 1];
  return (
    <figure className="plot" ref={frame}>
      {series.length > 1 && (
        <figcaption>
          {series.map((one, index) => (
            <span key={one.name} className={`legend series-${index}`}>
              {one.name}
            </span>
          ))}
        </figcaption>
      )}
      <svg width={width} height={height} viewBox={`0 0 ${width} ${height}`} role="img" aria-label={`${series.map((one) => one.name).join(" and ")}: means with confidence intervals`}>
        {ticks.map((tick) => (
          <g key={tick}>
            <line className="grid" x1={x(tick)} x2={x(tick)} y1={TOP} y2={height - 22} />
            <text className="tick" x={x(tick)} y={height - 6}>
              {signed ? tick.toFixed(2) : tick}
            </text>
          </g>
        ))}
        {names.map((name, row) => (
          <g key={name}>
            <text className="plot-label" x={LABEL - 12} y={TOP + row * ROW + ROW / 2 + 4}>
              {series.flatMap((one) => one.figures).find((figure) => figure.name === name)?.label}
            </text>
            {series.map((one, index) => {
              const figure = one.figures.find((each) => each.name === name);
              if (!figure) return null;
              const y = TOP + row * ROW + ROW / 2 + (series.length > 1 ? (index - 0.5) * 9 : 0);
              return (
                <g key={one.name} className={`mark series-${index}`}>
                  <title>{`${figure.label}: ${figure.value.toFixed(3)}`}</title>
                  {figure.low !== null && figure.high !== null && <line x1={x(figure.low)} x2={x(figure.high)} y1={y} y2={y} />}
                  {index === 0 ? <circle cx={x(figure.value)} cy={y} r="4.5" /> : <rect x={x(figure.value) - 4} y={y - 4} width="8" height="8" />}
                </g>
              );
            })}
          </g>
        ))}
      </svg>
    </figure>
  );
}

function rangeOf(series: Series[]): [number, number] {
  const bounds = series.flatMap((one) => one.figures.flatMap((figure) => [figure.value, figure.low ?? 0, figure.high ?? 0]));
  const most = Math.max(0.01, ...bounds.map(Math.abs)) * 1.1;
  return [-most, most];
}
