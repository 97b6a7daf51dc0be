import { NavLink, Outlet, Route, Routes } from "react-router";
import { useMay } from "../../lib/session";
import { Empty } from "../../ui/basics";
import { DeadLettersPage } from "./dead-letters";
import { JobPage } from "./job";
import "./jobs.css";
import { JobListPage } from "./list";
import { EditSchedule } from "./schedule-form";
import { SchedulesPage } from "./schedules";
import { StartPage } from "./start";

/** Jobs, their schedules, and the work that failed for good. */
export default function JobsPages() {
  const admin = useMay("admin");
  const may = useMay("jobs");
  return (
    <Routes>
      <Route element={<Tabs admin={admin} />}>
        <Route index element={<JobListPage />} />
        <Route path="schedules" element={<SchedulesPage />} />
        <Route path="dead-letters" element={admin ? <DeadLettersPage /> : <NotAllowed />} />
      </Route>
      <Route path="new" element={may ? <StartPage /> : <NotAllowed />} />
      <Route path="schedules/new" element={may ? <EditSchedule /> : <NotAllowed />} />
      <Route path="schedules/:name" element={<EditSchedule />} />
      <Route path=":job" element={<JobPage />} />
      <Route path="*" element={<Empty icon="search" title="There is no such page" />} />
    </Routes>
  );
}

function Tabs({ admin }: { admin: boolean }) {
  return (
    <div className="page jobs-page">
      <nav className="tabs" aria-label="Jobs">
        <NavLink to="/jobs" end>
          Jobs
        </NavLink>
        <NavLink to="/jobs/schedules">Schedules</NavLink>
        {admin && <NavLink to="/jobs/dead-letters">Dead letters</NavLink>}
      </nav>
      <Outlet />
    </div>
  );
}

function NotAllowed() {
  return (
    <Empty icon="keys" title="This key does not allow this page">
      <p>Sign in with another key, or ask the people who run Sluice for one that does.</p>
    </Empty>
  );
}
