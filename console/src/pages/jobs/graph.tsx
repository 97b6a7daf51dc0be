import { useMemo, useRef } from "react";
import type { Step } from "../../api/client";
import { printable, span } from "../../lib/format";
import { State } from "../../ui/basics";
import { kindName } from "./data";
import { layOutAcross, layOutDown } from "./layout";
import { useWidth } from "./use-width";

interface Props {
  steps: Step[];
  selected: string | null;
  onSelect: (step: string) => void;
}

const ACROSS = { width: 176, height: 54, gapAlong: 44, gapAcross: 16 };
const DOWN = { width: 150, height: 54, gapAlong: 34, gapAcross: 12 };
const NARROW = 620;
const MARGIN = 6;
const SMALLEST = 0.74;

/** A pipeline as a graph for the eye and the pointer, and as a table for the keyboard and for screen readers. */
export function PipelineSteps({ steps, selected, onSelect }: Props) {
  return (
    <>
      <Graph steps={steps} selected={selected} onSelect={onSelect} />
      <StepTable steps={steps} selected={selected} onSelect={onSelect} />
    </>
  );
}

function Graph({ steps, selected, onSelect }: Props) {
  const frame = useRef<HTMLDivElement>(null);
  const room = useWidth(frame);
  // The places depend on the graph alone, so a change of state moves nothing.
  const shape = steps.map((step) => `${step.step}<${step.needs.join(",")}`).join(";");
  const layout = useMemo(() => {
    const nodes = steps.map((step) => ({ id: step.step, needs: step.needs }));
    const across = layOutAcross(nodes, ACROSS);
    const fits = room === 0 || room >= NARROW || across.width + 2 * MARGIN <= room;
    return fits ? { ...across, size: ACROSS } : { ...layOutDown(nodes, DOWN, room - 2 * MARGIN), size: DOWN };
  }, [shape, room]);
  const width = layout.width + 2 * MARGIN;
  const height = layout.height + 2 * MARGIN;
  // A little smaller is better than scrolling; much smaller cannot be read.
  const scale = room === 0 ? 1 : Math.max(SMALLEST, Math.min(1, room / width));
  const byName = new Map(steps.map((step) => [step.step, step]));
  return (
    <div className="graph scroller" ref={frame} role="img" aria-label="Graph of the steps, which the table lists" tabIndex={0}>
      <svg aria-hidden="true" width={width * scale} height={height * scale} viewBox={`${-MARGIN} ${-MARGIN} ${width} ${height}`}>
        {layout.edges.map((edge) => {
          const status = byName.get(edge.from)?.status;
          const near = selected === edge.from || selected === edge.to;
          return <path key={`${edge.from} ${edge.to}`} d={edge.path} className={`edge ${status ?? ""} ${near ? "near" : ""}`} />;
        })}
        {layout.nodes.map((node) => {
          const step = byName.get(node.id);
          if (!step) return null;
          return (
            <g
              key={node.id}
              className={`node ${step.status} ${selected === node.id ? "selected" : ""}`}
              transform={`translate(${node.x} ${node.y})`}
              onClick={() => onSelect(node.id)}
            >
              <title>{`${step.step}: ${step.status}${step.reason ? `, ${step.reason}` : ""}`}</title>
              <rect width={layout.size.width} height={layout.size.height} rx="9" />
              <Mark status={step.status} />
              <text x="36" y="23" className="node-name">
                {shortened(step.step, layout.size === DOWN ? 14 : 17)}
              </text>
              <text x="36" y="41" className="node-kind">
                {shortened(`${kindName(step.kind)}${step.total > 1 ? ` ${step.done}/${step.total}` : ""}`, layout.size === DOWN ? 16 : 20)}
              </text>
            </g>
          );
        })}
      </svg>
    </div>
  );
}

/** The state as a shape, for those who do not tell the colours apart. */
function Mark({ status }: { status: Step["status"] }) {
  const paths: Record<Step["status"], string> = {
    waiting: "M15 27h8",
    running: "M16 22l7 5-7 5z",
    succeeded: "M14.5 27.5l3 3 6-7",
    failed: "M15.5 23.5l7 7M22.5 23.5l-7 7",
    skipped: "M15 23l4 4-4 4M19 23l4 4-4 4",
    cancelled: "M15 31l8-8",
  };
  return (
    <g className="mark">
      <circle cx="19" cy="27" r="9.5" />
      <path d={paths[status]} />
    </g>
  );
}

function StepTable({ steps, selected, onSelect }: Props) {
  return (
    <div className="scroller">
      <table className="compact stacked">
        <caption className="visually-hidden">Steps of the pipeline</caption>
        <thead>
          <tr>
            <th scope="col">Step</th>
            <th scope="col">State</th>
            <th scope="col" className="wide-only">
              After
            </th>
            <th scope="col" className="number">
              Took
            </th>
            <th scope="col">Reason</th>
          </tr>
        </thead>
        <tbody>
          {steps.map((step) => (
            <tr key={step.step} className={selected === step.step ? "selected" : ""}>
              <td>
                <button type="button" className="link" aria-pressed={selected === step.step} onClick={() => onSelect(step.step)}>
                  {step.step}
                </button>
                <span className="step-kind faint">{kindName(step.kind)}</span>
              </td>
              <td className="nowrap">
                <State state={step.status} />
                {step.total > 1 && (
                  <span className="faint">
                    {" "}
                    {step.done} of {step.total}
                  </span>
                )}
              </td>
              <td className="faint wide-only">{step.needs.length > 0 ? step.needs.join(", ") : "–"}</td>
              <td className="number nowrap">{tookOf(step)}</td>
              <td className="name" dir="auto">
                {printable(step.reason) || (step.cached > 0 ? "used an earlier result" : "")}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

export function tookOf(step: Step): string {
  if (step.started_at === null) return "–";
  return span(Math.max(0, (step.finished_at ?? Date.now() / 1000) - step.started_at));
}

const shortened = (text: string, most: number): string => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
