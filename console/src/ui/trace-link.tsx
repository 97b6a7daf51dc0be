import { Link } from "react-router";
import { useOptionalSession } from "../lib/session";

/** The id of a trace, and the way to it where the key may read traces. */
export function TraceLink({ id }: { id: string }) {
  const actions = useOptionalSession()?.actions ?? [];
  const named = <code className="trace-id">{id}</code>;
  if (!actions.includes("read") && !actions.includes("query")) return named;
  return <Link to={`/operate/traces/${encodeURIComponent(id)}`}>{named}</Link>;
}
