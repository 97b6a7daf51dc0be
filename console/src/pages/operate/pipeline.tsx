import { useEffect, useRef, useState } from "react";
import { count } from "../../lib/format";
import { keyOf, type StageFigures } from "./status";

const ROW = 52;
const HEAD = 30;
const GAP = 22;
const NARROWEST = 236;
const MOST_VARIANTS = 4;
const DOT = 9;

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
  const rows = Math.max(1, ...stops.map((stop) => stop.variants.length + (stop.more > 0 ? 0.5 : 0)));
  const height = HEAD + rows * ROW;
  const across = width >= stops.length * NARROWEST;
  const cell = across ? (width - GAP * (stops.length - 1)) / Math.max(1, stops.length) : width;
  const whole = across ? height + 4 : stops.length * (height + GAP);
  return (
    <div ref={place} className="pipeline-picture">
      {width > 0 && (
        <svg width={width} height={whole} viewBox={`0 0 ${width} ${whole}`} role="img" aria-label={inWords(stops)}>
          {stops.map((stop, index) => (
            <g
              key={`${stop.stage}.${index}`}
              transform={across ? `translate(${index * (cell + GAP)} 2)` : `translate(0 ${index * (height + GAP) + 2})`}
            >
              <StopPicture stop={stop} width={cell} height={height - 2} />
              {index < stops.length - 1 &&
                (across ? (
                  <Arrow x1={cell} y1={HEAD + ROW / 2} x2={cell + GAP - 2} y2={HEAD + ROW / 2} />
                ) : (
                  <Arrow x1={cell * 0.7} y1={height - 2} x2={cell * 0.7} y2={height + GAP - 4} />
                ))}
            </g>
          ))}
        </svg>
      )}
    </div>
  );
}

function Arrow({ x1, y1, x2, y2 }: { x1: number; y1: number; x2: number; y2: number }) {
  const tip = x1 === x2 ? `M${x2 - 4} ${y2 - 5}L${x2} ${y2}L${x2 + 4} ${y2 - 5}` : `M${x2 - 5} ${y2 - 4}L${x2} ${y2}L${x2 - 5} ${y2 + 4}`;
  return <path className="flow" d={`M${x1} ${y1}L${x2} ${y2}${tip}`} />;
}

function StopPicture({ stop, width, height }: { stop: Stop; width: number; height: number }) {
  const queue = Math.round(width * 0.38);
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
      {stop.variants.map((variant, row) => (
        <g key={keyOf(variant)} transform={`translate(0 ${HEAD + row * ROW})`}>
          <Queue variant={variant} width={queue} />
          <Slots variant={variant} named={stop.variants.length > 1} x={queue + 12} width={box - 26} />
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
  const room = Math.max(1, Math.floor((width - 14) / DOT));
  const shown = Math.min(waiting, room);
  const interactive = Math.min(variant.waiting, shown);
  return (
    <g className={`queue ${waiting > 0 ? "waits" : ""}`}>
      <text className="stage-note" x={2} y={14}>
        {count(waiting)} waiting
      </text>
      <line className="flow" x1={0} x2={width} y1={26} y2={26} />
      {Array.from({ length: shown }, (_, index) => (
        <circle key={index} className={index < interactive ? "" : "batch"} cx={width - 8 - index * DOT} cy={26} r={3.4} />
      ))}
    </g>
  );
}

function Slots({ variant, named, x, width }: { variant: StageFigures; named: boolean; x: number; width: number }) {
  const inFlight = variant.inFlight + variant.batchInFlight;
  const share = variant.room > 0 ? Math.min(1, inFlight / variant.room) : 0;
  const said = variant.ready === 0 ? "no worker" : `${count(inFlight)} of ${count(variant.room)}`;
  return (
    <g>
      <text className={`stage-note ${variant.ready === 0 ? "bad" : ""}`} x={x} y={14}>
        {fit(named ? `${variant.variant}: ${said}` : variant.ready === 0 ? said : `${said} in flight`, width, 6.4)}
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
      .map((one) => `${keyOf(one)}: ${one.waiting + one.batchWaiting} waiting, ${one.inFlight + one.batchInFlight} of ${one.room} in flight`)
      .join("; ");
  });
  return `The pipeline. ${said.join(". ")}.`;
}
