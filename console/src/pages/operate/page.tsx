import { Navigate, NavLink, Route, Routes, useLocation } from "react-router";
import { useMay } from "../../lib/session";
import { Empty } from "../../ui/basics";
import { ComparePage } from "./compare";
import { FeedbackPage } from "./feedback";
import { Overview } from "./overview";
import { RoutesPage } from "./routes";
import { useLiveStatus } from "./status";
import { TracePage } from "./trace";
import { TracesPage } from "./traces";
import { UsagePage } from "./usage";
import "./operate.css";

/** What runs, where queries wait, where one spent its time, what readers say of the answers, and what they cost. */
export default function OperatePage() {
  const runs = useMay("admin");
  const reads = useMay("read");
  const { pathname } = useLocation();
  const live = useLiveStatus(runs && !/^\/operate\/(traces|usage|feedback|routes\/.)/.test(pathname));
  return (
    <div className="page operate">
      <nav className="tabs" aria-label="Operate">
        {runs && (
          <NavLink to="/operate" end>
            Status
          </NavLink>
        )}
        {reads && <NavLink to="/operate/routes">Routes</NavLink>}
        <NavLink to="/operate/traces">Traces</NavLink>
        {reads && <NavLink to="/operate/feedback">Feedback</NavLink>}
        {reads && <NavLink to="/operate/usage">Usage</NavLink>}
      </nav>
      <Routes>
        <Route index element={runs ? <Overview live={live} /> : <Navigate to="/operate/traces" replace />} />
        {reads && <Route path="routes" element={<RoutesPage live={live} />} />}
        {reads && <Route path="routes/:stage/:variant" element={<ComparePage />} />}
        {reads && <Route path="feedback" element={<FeedbackPage />} />}
        <Route path="traces" element={<TracesPage />} />
        <Route path="traces/:trace" element={<TracePage />} />
        {reads && <Route path="usage" element={<UsagePage />} />}
        <Route path="*" element={<Empty icon="search" title="There is no such page" />} />
      </Routes>
    </div>
  );
}
