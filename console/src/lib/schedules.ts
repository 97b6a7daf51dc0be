import { api, ProblemError, read, type Schedule } from "../api/client";

/** What people have written of a schedule, without what its runs change. */
function written({ next_at: _next, last_at: _at, last_job: _job, skipped_at: _skipped, ...rest }: Schedule): string {
  return JSON.stringify(rest);
}

/** Saves a schedule in place of the one that its writer has seen, `null` for none. Throws ProblemError where there is another. */
export async function saveSchedule(name: string, body: object, seen: Schedule | null): Promise<Schedule> {
  const { schedules } = await read(api.GET("/v1/schedules"));
  const now = schedules.find((one) => one.name === name);
  if (now && !seen) {
    throw new ProblemError({ title: `There is a schedule ${name} already`, detail: "Choose another name, or change that one under Jobs, Schedules." });
  }
  if (now && seen && written(now) !== written(seen)) {
    throw new ProblemError({ title: "Somebody has changed this schedule since you opened it", detail: "Open it again to see how it is now." });
  }
  return read(api.PUT("/v1/schedules/{name}", { params: { path: { name } }, body: body as never }));
}
