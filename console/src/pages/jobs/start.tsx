import { useQueryClient } from "@tanstack/react-query";
import { useEffect, useState, type FormEvent } from "react";
import { Link, useSearchParams } from "react-router";
import { useGo } from "../../lib/go";
import { useSubmitJob } from "../../lib/submit";
import { Button, Loading, PageHead, Problem } from "../../ui/basics";
import { useSpec } from "./data";
import { Faults } from "./faults";
import { membersOf, NO_SETTINGS, SettingsForm } from "./settings-form";
import { draftOf, faultOf, SpecForm, specOf, startOf, type Draft } from "./spec-form";

/** `?kind=` and `?collection=` choose what it begins with; `?like=` the spec of an earlier job, with `?baseline=` as the report
 * that an evaluation is compared with. */
export function StartPage() {
  const [search] = useSearchParams();
  const like = search.get("like") ?? "";
  const baseline = search.get("baseline");
  const earlier = useSpec(like, like !== "");
  const [draft, setDraft] = useState<Draft>(() => startOf(search.get("kind") ?? "ingest", search.get("collection") ?? undefined));
  const [settings, setSettings] = useState(NO_SETTINGS);
  const [error, setError] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const client = useQueryClient();
  const submitJob = useSubmitJob();
  const go = useGo();
  useEffect(() => {
    if (earlier.data) setDraft(draftOf({ ...earlier.data, ...(baseline ? { baseline } : {}) }));
  }, [earlier.data, baseline]);
  const send = async (event: FormEvent) => {
    event.preventDefault();
    setError(null);
    setBusy(true);
    try {
      const job = await submitJob({ spec: specOf(draft), ...membersOf(settings) });
      void client.invalidateQueries({ queryKey: ["jobs"] });
      go(`/jobs/${job.id}`);
    } catch (failure) {
      setError(failure);
      setBusy(false);
    }
  };
  return (
    <div className="page jobs-page narrow">
      <Back />
      <PageHead title="Start a job" />
      {earlier.isLoading ? (
        <Loading label="Reading the earlier job" />
      ) : (
        <form className="panel padded form" onSubmit={(event) => void send(event)}>
          {earlier.error && <Problem error={earlier.error} />}
          <SpecForm draft={draft} onDraft={setDraft} />
          <SettingsForm settings={settings} onSettings={setSettings} />
          {error !== null && <Faults error={error} />}
          <div className="dialog-actions">
            <Link className="button" to="/jobs">
              Cancel
            </Link>
            <Button kind="primary" type="submit" busy={busy} disabled={faultOf(draft) !== null}>
              Start
            </Button>
          </div>
        </form>
      )}
    </div>
  );
}

export function Back({ to = "/jobs", label = "Jobs" }: { to?: string; label?: string }) {
  return (
    <nav aria-label="Back" className="back">
      <Link to={to}>← {label}</Link>
    </nav>
  );
}
