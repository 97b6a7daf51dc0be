import type { ReactNode } from "react";
import { Link } from "react-router";
import { useOptionalSession } from "../lib/session";

/** The way to a trace, where the key may read traces; it shows the trace's id unless it has children. */
export function TraceLink({ id, children }: { id: string; children?: ReactNode }) {
  const actions = useOptionalSession()?.actions ?? [];
  const named = children ?? <code className="trace-id">{id}</code>;
  if (!actions.includes("read") && !actions.includes("query")) return <>{named}</>;
  return <Link to={`/operate/traces/${encodeURIComponent(id)}`}>{named}</Link>;
}
