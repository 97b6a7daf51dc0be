import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "react-router";
import { api, read, type Schedule } from "../../api/client";
import { moment } from "../../lib/format";
import { useGo } from "../../lib/go";
import { useMay } from "../../lib/session";
import { Button, Empty, Loading, PageHead, Problem, State, Time } from "../../ui/basics";
import { Confirm } from "../../ui/dialog";
import { kindName, useJob } from "./data";

const PAGE = 25;

export function useSchedules() {
  return useQuery({
    queryKey: ["schedules"],
    queryFn: ({ signal }) => read(api.GET("/v1/schedules", { signal })).then((body) => body.schedules),
    refetchInterval: 10_000,
  });
}

export function SchedulesPage() {
  const schedules = useSchedules();
  const may = useMay("jobs");
  const [page, setPage] = useState(0);
  const found = schedules.data ?? [];
  const last = Math.max(0, Math.ceil(found.length / PAGE) - 1);
  const at = Math.min(page, last);
  return (
    <>
      <PageHead title="Schedules" lead="Jobs that Sluice starts by the clock.">
        {may && (
          <Link className="button primary" to="/jobs/schedules/new">
            New schedule
          </Link>
        )}
      </PageHead>
      <section className="panel" aria-label="Schedules">
        {schedules.isPending ? (
          <Loading label="Reading schedules" />
        ) : schedules.error && !schedules.data ? (
          <div className="padded">
            <Problem error={schedules.error} retry={() => void schedules.refetch()} />
          </div>
        ) : found.length === 0 ? (
          <Empty icon="history" title="There are no schedules">
            <p>A schedule starts a job again and again, such as a nightly pipeline.</p>
            {may && (
              <Link className="button primary" to="/jobs/schedules/new">
                New schedule
              </Link>
            )}
          </Empty>
        ) : (
          <>
            <div className="scroller">
              <table className="stacked">
                <thead>
                  <tr>
                    <th scope="col">Schedule</th>
                    <th scope="col">When</th>
                    <th scope="col">Next run</th>
                    <th scope="col">Last run</th>
                    {may && <th scope="col">Actions</th>}
                  </tr>
                </thead>
                <tbody>
                  {found.slice(at * PAGE, (at + 1) * PAGE).map((schedule) => (
                    <Row key={schedule.name} schedule={schedule} may={may} />
                  ))}
                </tbody>
              </table>
            </div>
            {last > 0 && (
              <nav className="pager" aria-label="Pages of schedules">
                <Button disabled={at === 0} onClick={() => setPage(at - 1)}>
                  Previous
                </Button>
                <span className="faint">
                  Page {at + 1} of {last + 1}
                </span>
                <Button disabled={at === last} onClick={() => setPage(at + 1)}>
                  Next
                </Button>
              </nav>
            )}
          </>
        )}
      </section>
    </>
  );
}

/** When a schedule ticks, in the words of its author. */
export const timingOf = (schedule: Schedule): string =>
  schedule.every ? `every ${schedule.every}` : `${schedule.cron ?? ""}${schedule.zone ? ` (${schedule.zone})` : " (UTC)"}`;

function Row({ schedule, may }: { schedule: Schedule; may: boolean }) {
  const spec = schedule.spec as { kind: string; collection?: string; name?: string };
  return (
    <tr>
      <td>
        <Link className="name" to={`/jobs/schedules/${encodeURIComponent(schedule.name)}`}>
          {schedule.name}
        </Link>
        <span className="job-id faint" dir="auto">
          {[kindName(spec.kind), spec.collection ?? spec.name ?? ""].filter(Boolean).join(" · ")}
        </span>
      </td>
      <td className="mono">{timingOf(schedule)}</td>
      <td className="nowrap">{schedule.paused ? <State state="paused" /> : schedule.next_at === null ? "–" : <Time at={schedule.next_at} />}</td>
      <td>
        <LastRun schedule={schedule} />
      </td>
      {may && (
        <td>
          <RowActions schedule={schedule} />
        </td>
      )}
    </tr>
  );
}

function LastRun({ schedule }: { schedule: Schedule }) {
  const last = useJob(schedule.last_job ?? "", schedule.last_job !== null);
  if (schedule.last_job === null) return <span className="faint">Not yet</span>;
  const skipped = schedule.skipped_at !== null && schedule.skipped_at > (schedule.last_at ?? 0);
  return (
    <>
      <Link to={`/jobs/${schedule.last_job}`}>
        <Time at={schedule.last_at} />
      </Link>{" "}
      {last.data && <State state={last.data.state ?? "queued"} />}
      {last.data?.error && (
        <span className="job-words bad" dir="auto">
          {last.data.error.detail || last.data.error.title}
        </span>
      )}
      {skipped && schedule.skipped_at !== null && <span className="faint"> A run was skipped {moment(schedule.skipped_at)}.</span>}
    </>
  );
}

function RowActions({ schedule }: { schedule: Schedule }) {
  const client = useQueryClient();
  const go = useGo();
  const [asked, setAsked] = useState(false);
  const [busy, setBusy] = useState("");
  const [error, setError] = useState<unknown>(null);
  const params = { params: { path: { name: schedule.name } } };
  const act = async (what: string, action: () => Promise<unknown>) => {
    setBusy(what);
    setError(null);
    try {
      await action();
      await client.invalidateQueries({ queryKey: ["schedules"] });
    } catch (failure) {
      setError(failure);
    }
    setBusy("");
  };
  return (
    <div className="row-actions">
      {schedule.paused ? (
        <Button kind="quiet" icon="play" busy={busy === "resume"} onClick={() => void act("resume", () => read(api.POST("/v1/schedules/{name}/resume", params)))}>
          Resume
        </Button>
      ) : (
        <Button kind="quiet" icon="pause" busy={busy === "pause"} onClick={() => void act("pause", () => read(api.POST("/v1/schedules/{name}/pause", params)))}>
          Pause
        </Button>
      )}
      <Button
        kind="quiet"
        busy={busy === "run"}
        onClick={() =>
          void act("run", async () => {
            const { job } = await read(api.POST("/v1/schedules/{name}/trigger", params));
            go(`/jobs/${job.id}`);
          })
        }
      >
        Run now
      </Button>
      <Button kind="quiet" icon="trash" aria-label={`Delete ${schedule.name}`} onClick={() => setAsked(true)} />
      {error !== null && <Problem error={error} />}
      {asked && (
        <Confirm
          title={`Delete ${schedule.name}?`}
          action="Delete"
          onClose={() => setAsked(false)}
          onConfirm={async () => {
            await read(api.DELETE("/v1/schedules/{name}", params));
            await client.invalidateQueries({ queryKey: ["schedules"] });
          }}
        >
          <p>It starts no more jobs. Those that it has started go on.</p>
        </Confirm>
      )}
    </div>
  );
}
