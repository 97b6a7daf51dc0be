import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useState, type FormEvent } from "react";
import { useParams, Link } from "react-router";
import { api, read, type Schedule } from "../../api/client";
import { useGo } from "../../lib/go";
import { saveSchedule } from "../../lib/schedules";
import { useMay } from "../../lib/session";
import { Button, Facts, Field, Loading, PageHead, Problem, State } from "../../ui/basics";
import { type Spec } from "./data";
import { Faults } from "./faults";
import { Moment } from "./job";
import { membersOf, NO_SETTINGS, SettingsForm, type Settings } from "./settings-form";
import { draftOf, faultOf, SpecForm, specOf, startOf, type Draft } from "./spec-form";
import { Back } from "./start";

interface Timing {
  by: "cron" | "every";
  cron: string;
  every: string;
  zone: string;
  missed: "skip" | "run_once";
  overlap: "allow" | "skip";
  paused: boolean;
}

const NIGHTLY: Timing = { by: "cron", cron: "0 3 * * *", every: "1h", zone: "", missed: "skip", overlap: "skip", paused: false };

/** A new schedule, or one that is there: saving replaces it. */
export function EditSchedule() {
  const { name: known } = useParams();
  const schedule = useQuery({
    queryKey: ["schedule", known],
    queryFn: ({ signal }) => read(api.GET("/v1/schedules/{name}", { params: { path: { name: known ?? "" } }, signal })),
    enabled: known !== undefined,
    refetchOnWindowFocus: false,
  });
  return (
    <div className="page jobs-page narrow">
      <Back to="/jobs/schedules" label="Schedules" />
      <PageHead title={known ?? "New schedule"} />
      {known !== undefined && schedule.isPending ? (
        <Loading label="Reading the schedule" />
      ) : known !== undefined && !schedule.data ? (
        <Problem error={schedule.error} retry={() => void schedule.refetch()} />
      ) : (
        <ScheduleForm known={schedule.data} />
      )}
    </div>
  );
}

function ScheduleForm({ known }: { known: Schedule | undefined }) {
  const may = useMay("jobs");
  const [seen] = useState(known);
  const [name, setName] = useState(known?.name ?? "");
  const [timing, setTiming] = useState<Timing>(() => timingFrom(known));
  const [draft, setDraft] = useState<Draft>(() => (known ? draftOf(known.spec as unknown as Spec) : startOf("ingest")));
  const [settings, setSettings] = useState<Settings>(() => settingsFrom(known));
  const [error, setError] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const client = useQueryClient();
  const go = useGo();
  useEffect(() => setTiming((now) => ({ ...now, paused: known?.paused ?? now.paused })), [known?.paused]);
  const set = (part: Partial<Timing>) => setTiming({ ...timing, ...part });
  const save = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      const body = {
        spec: specOf(draft),
        ...membersOf(settings),
        ...(timing.by === "cron" ? { cron: timing.cron, ...(timing.zone ? { zone: timing.zone } : {}) } : { every: timing.every }),
        missed: timing.missed,
        overlap: timing.overlap,
        paused: timing.paused,
      };
      await saveSchedule(name, body, seen ?? null);
      await client.invalidateQueries({ queryKey: ["schedules"] });
      client.removeQueries({ queryKey: ["schedule", name] });
      go("/jobs/schedules");
    } catch (failure) {
      setError(failure);
      setBusy(false);
    }
  };
  return (
    <form className="panel padded form" onSubmit={(event) => void save(event)}>
      {known && (
        <Facts
          facts={[
            ["State", <State key="state" state={known.paused ? "paused" : "active"} />],
            ["Next run", <Moment key="next" at={known.paused ? null : known.next_at} />],
            ["Last run", known.last_job ? <Link key="last" to={`/jobs/${known.last_job}`}><Moment at={known.last_at} /></Link> : "–"],
          ]}
        />
      )}
      {!known && (
        <Field label="Name" hint="Letters, digits, - and _">
          <input required value={name} maxLength={64} autoFocus onChange={(event) => setName(event.target.value)} />
        </Field>
      )}
      <fieldset className="choices">
        <legend>When</legend>
        <label className="check">
          <input type="radio" name="by" checked={timing.by === "cron"} onChange={() => set({ by: "cron" })} /> At times of the calendar
        </label>
        <label className="check">
          <input type="radio" name="by" checked={timing.by === "every"} onChange={() => set({ by: "every" })} /> At an interval
        </label>
      </fieldset>
      {timing.by === "cron" ? (
        <div className="form-row">
          <Field label="Cron" hint="minute hour day month weekday, or @daily">
            <input required className="mono" value={timing.cron} onChange={(event) => set({ cron: event.target.value })} />
          </Field>
          <Field label="Time zone" hint="UTC if empty">
            <input value={timing.zone} placeholder="Europe/Berlin" onChange={(event) => set({ zone: event.target.value })} />
          </Field>
        </div>
      ) : (
        <Field label="Every" hint="Such as 90s, 15m or 1h30m">
          <input required className="mono" value={timing.every} onChange={(event) => set({ every: event.target.value })} />
        </Field>
      )}
      <label className="check">
        <input type="checkbox" checked={timing.overlap === "skip"} onChange={(event) => set({ overlap: event.target.checked ? "skip" : "allow" })} />
        Skip a run while the last one has not ended
      </label>
      <label className="check">
        <input type="checkbox" checked={timing.missed === "run_once"} onChange={(event) => set({ missed: event.target.checked ? "run_once" : "skip" })} />
        Run once for the times that were missed while Sluice was down
      </label>
      <label className="check">
        <input type="checkbox" checked={timing.paused} onChange={(event) => set({ paused: event.target.checked })} />
        Paused
      </label>
      <SpecForm draft={draft} onDraft={setDraft} />
      <SettingsForm settings={settings} onSettings={setSettings} />
      {error !== null && <Faults error={error} />}
      {may && (
        <div className="dialog-actions">
          <Link className="button" to="/jobs/schedules">
            Cancel
          </Link>
          <Button kind="primary" type="submit" busy={busy} disabled={faultOf(draft) !== null}>
            {known ? "Save" : "Create"}
          </Button>
        </div>
      )}
    </form>
  );
}

function timingFrom(known: Schedule | undefined): Timing {
  if (!known) return NIGHTLY;
  return {
    by: known.every ? "every" : "cron",
    cron: known.cron ?? NIGHTLY.cron,
    every: known.every ?? NIGHTLY.every,
    zone: known.zone ?? "",
    missed: known.missed,
    overlap: known.overlap,
    paused: known.paused,
  };
}

function settingsFrom(known: Schedule | undefined): Settings {
  if (!known) return NO_SETTINGS;
  const { options, timeout } = known;
  return {
    priority: options.priority ?? "normal",
    timeout: timeout === null ? "" : String(timeout),
    tries: options.retry && options.retry.limit !== 5 ? String(options.retry.limit) : "",
    labels: Object.entries(options.labels ?? {})
      .map(([key, value]) => `${key}=${value}`)
      .join(", "),
  };
}
