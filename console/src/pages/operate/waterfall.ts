import type { Span, Trace } from "../../api/client";
import { count, milliseconds } from "../../lib/format";

export interface Row {
  span: Span;
  depth: number;
}

/** Each span after its parent, with its depth. A span whose parent nobody remembers stands at the top. */
export function treeOf(trace: Trace): Row[] {
  const known = new Set(trace.spans.map((span) => span.span_id));
  const children = new Map<string | null, Span[]>();
  for (const span of trace.spans) {
    const parent = span.parent_id !== null && known.has(span.parent_id) && span.parent_id !== span.span_id ? span.parent_id : null;
    const siblings = children.get(parent);
    if (siblings) siblings.push(span);
    else children.set(parent, [span]);
  }
  const rows: Row[] = [];
  const waiting: Row[] = (children.get(null) ?? []).map((span) => ({ span, depth: 0 })).reverse();
  for (let row = waiting.pop(); row; row = waiting.pop()) {
    rows.push(row);
    const depth = row.depth + 1;
    waiting.push(...(children.get(row.span.span_id) ?? []).map((span) => ({ span, depth })).reverse());
  }
  return rows;
}

type Value = Span["attributes"][string];

/** Attributes that matter, in the order in which they are said, with the value that is not worth a word. */
const SAID: [string, (value: Value) => string, Value?][] = [
  ["sluice.waited_ms", (value) => `waited ${milliseconds(Number(value))}`],
  ["sluice.delivery", (value) => `delivery ${value}`, 1],
  ["sluice.batch.items", (value) => `${value} in the batch`, 1],
  ["gen_ai.usage.input_tokens", (value) => `${count(Number(value))} tokens in`],
  ["gen_ai.usage.output_tokens", (value) => `${count(Number(value))} tokens out`],
  ["gen_ai.response.time_to_first_chunk", (value) => `first token after ${milliseconds(Number(value) * 1000)}`],
  ["sluice.passages", (value) => `${value} passages`],
  ["sluice.texts", (value) => `${count(Number(value))} texts`, 1],
  ["sluice.variant", (value) => `variant ${value}`, "default"],
  ["sluice.outcome", (value) => String(value)],
  ["sluice.job.attempt", (value) => `try ${value}`, 1],
  ["http.response.status_code", (value) => `HTTP ${value}`],
];

/** An error in words: the span of a request has its status alone. */
export const errorWords = (error: string): string => (/^\d{3}$/.test(error) ? `HTTP ${error}` : error);

export function notesOf(span: Span): string {
  const said = span.linked ? ["batch of several traces"] : [];
  for (const [name, words, usual] of SAID) {
    const value = span.attributes[name];
    if (value !== undefined && value !== usual) said.push(words(value));
  }
  return said.join(", ");
}
