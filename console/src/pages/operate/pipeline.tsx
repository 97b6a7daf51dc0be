import { useEffect, useRef, useState } from "react";
import { count } from "../../lib/format";
import { keyOf, nameOf, type StageFigures } from "./status";

const ROW = 52;
const HEAD = 30;
const GAP = 18;
const NARROWEST = 190;
const MOST_VARIANTS = 4;
const DOT = 9;

/** Where the line of a queue runs within its row. */
const LINE = 26;

interface Stop {
  stage: string;
  variants: StageFigures[];
  more: number;
}

/** The stages of a pipeline from left to right, or from top to bottom: what waits before each, and what is in work. */
export function Pipeline({ path, stages }: { path: string[]; stages: StageFigures[] }) {
  const place = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const box = place.current;
    if (!box) return;
    const observer = new ResizeObserver(([entry]) => setWidth(Math.floor(entry?.contentRect.width ?? 0)));
    observer.observe(box);
    return () => observer.disconnect();
  }, []);

  const stops = path.map((stage): Stop => {
    const served = stages.filter((one) => one.stage === stage);
    return { stage, variants: served.slice(0, MOST_VARIANTS), more: Math.max(0, served.length - MOST_VARIANTS) };
  });
  const heights = stops.map((stop) => HEAD + Math.max(1, stop.variants.length + (stop.more > 0 ? 0.5 : 0)) * ROW);
  const tops = heights.map((_, index) => heights.slice(0, index).reduce((sum, one) => sum + one + GAP, 0));
  const across = width >= stops.length * NARROWEST;
  const cell = across ? (width - GAP * (stops.length - 1)) / Math.max(1, stops.length) : width;
  const whole = across ? Math.max(0, ...heights) + 4 : heights.reduce((sum, one) => sum + one + GAP, 0) - GAP + 4;
  return (
    <div ref={place} className="pipeline-picture">
      {width > 0 && (
        <svg width={width} height={whole} viewBox={`0 0 ${width} ${whole}`} role="img" aria-label={inWords(stops)}>
          {stops.map((stop, index) => (
            <g
              key={`${stop.stage}.${index}`}
              transform={across ? `translate(${index * (cell + GAP)} 2)` : `translate(0 ${tops[index]! + 2})`}
            >
              <StopPicture stop={stop} width={cell} height={heights[index]! - 2} />
              {index < stops.length - 1 &&
                (across ? (
                  <path className="flow" d={`M${cell} ${HEAD + LINE}h${GAP}`} />
                ) : (
                  <path
                    className="flow"
                    d={`M${cell * 0.7} ${heights[index]! - 2}v${GAP / 2 + 1}H1V${heights[index]! + GAP + HEAD + LINE}`}
                  />
                ))}
            </g>
          ))}
        </svg>
      )}
    </div>
  );
}

function StopPicture({ stop, width, height }: { stop: Stop; width: number; height: number }) {
  const queue = Math.round(width * 0.35);
  const box = width - queue;
  const idle = stop.variants.every((one) => one.ready === 0);
  return (
    <>
      <rect className={`stage-box ${idle ? "absent" : ""}`} x={queue} y={0.5} width={box - 1} height={height} rx={9} />
      <text className="stage-title" x={queue + 12} y={21}>
        {fit(stop.stage, box - 24, 8)}
      </text>
      {stop.variants.length === 0 && (
        <text className="stage-note bad" x={queue + 12} y={HEAD + 24}>
          no worker
        </text>
      )}
      {stop.variants.length > 1 && <path className="flow" d={`M1 ${HEAD + LINE}v${(stop.variants.length - 1) * ROW}`} />}
      {stop.variants.map((variant, row) => (
        <g key={keyOf(variant)} transform={`translate(0 ${HEAD + row * ROW})`}>
          <Queue variant={variant} width={queue} />
          <Slots variant={variant} named={stop.variants.length > 1 || variant.variant !== "default"} x={queue + 12} width={box - 26} />
        </g>
      ))}
      {stop.more > 0 && (
        <text className="stage-note" x={queue + 12} y={height - 8}>
          and {stop.more} more
        </text>
      )}
    </>
  );
}

/** The queries that wait, a dot for each as long as there is room. */
function Queue({ variant, width }: { variant: StageFigures; width: number }) {
  const waiting = variant.waiting + variant.batchWaiting;
  const room = Math.max(1, Math.floor((width - 18) / DOT));
  const shown = Math.min(waiting, room);
  const interactive = Math.min(variant.waiting, shown);
  return (
    <g className={`queue ${waiting > 0 ? "waits" : ""}`}>
      <text className="stage-note" x={6} y={14}>
        {width < 84 && waiting > 9 ? count(waiting) : `${count(waiting)} waiting`}
      </text>
      <path className="flow" d={`M1 ${LINE}H${width - 2}m-5 -4l5 4l-5 4`} />
      {Array.from({ length: shown }, (_, index) => (
        <circle key={index} className={index < interactive ? "" : "batch"} cx={width - 12 - index * DOT} cy={LINE} r={3.4} />
      ))}
    </g>
  );
}

function Slots({ variant, named, x, width }: { variant: StageFigures; named: boolean; x: number; width: number }) {
  const inFlight = variant.inFlight + variant.batchInFlight + variant.held;
  const share = variant.room > 0 ? Math.min(1, inFlight / variant.room) : 0;
  const said = variant.held > 0 ? `${count(inFlight)}, no answer` : variant.ready === 0 ? "no worker" : `${count(inFlight)} of ${count(variant.room)}`;
  return (
    <g>
      <text className={`stage-note ${variant.ready === 0 ? "bad" : ""}`} x={x} y={14}>
        {fit(named ? `${variant.variant}: ${said}` : variant.ready === 0 || width < 112 ? said : `${said} in flight`, width, 6.1)}
      </text>
      <rect className="slots" x={x} y={22} width={width} height={8} rx={4} />
      {share > 0 && <rect className={`slots taken ${share === 1 ? "full" : ""}`} x={x} y={22} width={Math.max(8, width * share)} height={8} rx={4} />}
    </g>
  );
}

/** Text cut to what fits, at so many pixels a letter. */
const fit = (text: string, width: number, letter: number): string =>
  text.length * letter <= width ? text : `${text.slice(0, Math.max(1, Math.floor(width / letter) - 1))}…`;

function inWords(stops: Stop[]): string {
  const said = stops.map((stop) => {
    if (stop.variants.length === 0) return `${stop.stage}: no worker`;
    return stop.variants
      .map((one) => `${nameOf(one)}: ${one.waiting + one.batchWaiting} waiting, ${one.inFlight + one.batchInFlight + one.held} of ${one.room} in flight`)
      .join("; ");
  });
  return `The pipeline. ${said.join(". ")}.`;
}
