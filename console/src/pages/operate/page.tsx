import { Navigate, NavLink, Route, Routes, useLocation } from "react-router";
import { useMay } from "../../lib/session";
import { Empty } from "../../ui/basics";
import { Overview } from "./overview";
import { RoutesPage } from "./routes";
import { useLiveStatus } from "./status";
import { TracePage } from "./trace";
import { TracesPage } from "./traces";
import "./operate.css";

/** What runs, where queries wait, and where one spent its time. */
export default function OperatePage() {
  const runs = useMay("admin");
  const reads = useMay("read");
  const { pathname } = useLocation();
  const live = useLiveStatus(runs && !pathname.startsWith("/operate/traces"));
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
      </nav>
      <Routes>
        <Route index element={runs ? <Overview live={live} /> : <Navigate to="/operate/traces" replace />} />
        {reads && <Route path="routes" element={<RoutesPage live={live} />} />}
        <Route path="traces" element={<TracesPage />} />
        <Route path="traces/:trace" element={<TracePage />} />
        <Route path="*" element={<Empty icon="search" title="There is no such page" />} />
      </Routes>
    </div>
  );
}
