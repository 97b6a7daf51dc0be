import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "react-router";
import { api, read, type Status } from "../../api/client";
import { count, milliseconds, percent, plural, printable } from "../../lib/format";
import { Button, Empty, Facts, Loading, PageHead, Problem, State, Time } from "../../ui/basics";
import { Icon } from "../../ui/icon";
import { Pipeline } from "./pipeline";
import { Sparkline } from "./sparkline";
import { findingsOf, GATEWAY, keyOf, nameOf, versionsOf, type Live, type Percentile, type Process, type StageFigures, type Work } from "./status";

const PLAIN = ["embed", "retrieve", "generate"];
const SHOWN = 30;

export function Overview({ live }: { live: Live }) {
  const { status, processes, stages, history, error, retry } = live;
  const [pipeline, setPipeline] = useState("default");
  const named = useQuery({
    queryKey: ["pipelines"],
    queryFn: () => read(api.GET("/v1/pipelines")),
    staleTime: 60_000,
  });
  if (!status) {
    return (
      <>
        <PageHead title="Status" />
        {error ? <Problem error={error} retry={retry} /> : <Loading label="Asking the services" />}
      </>
    );
  }
  const pipelines = named.data?.pipelines ?? [];
  const chosen = pipelines.find((one) => one.name === pipeline);
  const path = [...(stages.some((stage) => stage.stage === GATEWAY) ? [GATEWAY] : []), ...(chosen?.stages.map((stop) => stop.stage) ?? PLAIN)];
  return (
    <>
      <PageHead title="Status" lead={lead(status, processes)}>
        {pipelines.length > 1 && (
          <label className="choice">
            <span>Pipeline</span>
            <select value={chosen ? pipeline : ""} onChange={(event) => setPipeline(event.target.value)}>
              {pipelines.map((one) => (
                <option key={one.name} value={one.name}>
                  {one.name}
                </option>
              ))}
            </select>
          </label>
        )}
      </PageHead>
      {error != null && <Problem error={error} retry={retry} />}
      <Findings status={status} processes={processes} stages={stages} />
      <section className="panel pipeline" aria-labelledby="pipeline-heading">
        <div className="section-head">
          <h2 id="pipeline-heading">Where queries wait</h2>
          <p className="faint">{waitingWords(stages)}</p>
        </div>
        <Pipeline path={path} stages={stages} />
      </section>
      <section aria-labelledby="stages-heading">
        <h2 id="stages-heading">Stages</h2>
        <StageTable stages={stages} history={history} />
      </section>
      <section aria-labelledby="services-heading">
        <h2 id="services-heading">Services</h2>
        <ServiceTable processes={processes} />
      </section>
      <Facts
        facts={[
          ["Jobs", <Link to="/jobs">{count(status.jobs.waiting)} waiting, {count(status.jobs.in_flight)} in work</Link>],
          ["Dead letters", status.dead_letters > 0 ? <Link to="/jobs/dead-letters">{count(status.dead_letters)}</Link> : "none"],
          ["Message broker", `NATS ${status.broker.version}, ${status.broker.url}`],
        ]}
      />
    </>
  );
}

function lead(status: Status, processes: Process[]): string {
  const versions = versionsOf(processes);
  const version = versions.length > 1 ? `versions ${versions.join(" and ")}` : `version ${versions[0] ?? status.version}`;
  return `${plural(processes.length, "process", "processes")}, ${version}`;
}

function waitingWords(stages: StageFigures[]): string {
  const backlog = (stage: StageFigures) => stage.waiting + stage.batchWaiting;
  const longest = stages.reduce<StageFigures | null>((most, one) => (backlog(one) > (most ? backlog(most) : 0) ? one : most), null);
  const inFlight = stages.reduce((sum, one) => sum + (one.stage === GATEWAY ? 0 : one.inFlight + one.batchInFlight + one.held), 0);
  if (!longest) return inFlight > 0 ? `Nothing waits. ${plural(inFlight, "query is", "queries are")} in work.` : "Nothing waits.";
  return `The longest queue is that of ${longest.stage === GATEWAY ? "the gateway" : nameOf(longest)}: ${plural(backlog(longest), "query waits", "queries wait")}.`;
}

function Findings({ status, processes, stages }: { status: Status; processes: Process[]; stages: StageFigures[] }) {
  const findings = findingsOf(status, processes, stages);
  if (findings.length === 0) {
    return (
      <p className="all-well">
        <Icon name="check" /> Everything is ready. <span className="faint"><code>sluice doctor</code> also looks at the machine.</span>
      </p>
    );
  }
  return (
    <ul className="findings" aria-label="What needs attention">
      {findings.map((finding) => (
        <li key={finding.text} className={finding.tone}>
          <Icon name="warning" />
          <span>
            <strong dir="auto">{printable(finding.text)}</strong>{" "}
            {finding.to ? <Link to={finding.to}>{finding.remedy}</Link> : finding.remedy}
          </span>
        </li>
      ))}
    </ul>
  );
}

export const mean = (value: number | null | undefined): string => (value == null ? "–" : milliseconds(value));

export const percentile = (value: Percentile | null | undefined): string =>
  !value ? "–" : `${value.beyond ? "> " : ""}${milliseconds(value.ms)}`;

export const perMinute = (work: Work | null): string =>
  work?.seconds ? rate((60 * work.ended) / work.seconds) : "–";

const rate = (value: number): string => count(value < 100 ? Math.round(value * 10) / 10 : Math.round(value));

export const failedShare = (work: Work | null): string =>
  !work || work.ended === 0 ? "–" : work.failed === 0 ? "0 %" : work.failed / work.ended < 0.01 ? "< 1 %" : percent(work.failed / work.ended);

function StageTable({ stages, history }: { stages: StageFigures[]; history: Map<string, number[]> }) {
  if (stages.length === 0) return <p className="faint">No stage has a worker or a queue yet.</p>;
  return (
    <div className="panel scroller" tabIndex={0} role="group" aria-label="Stages, a table">
      <table className="stages compact">
        <thead>
          <tr>
            <th scope="col">Stage</th>
            <th scope="col" className="number">Waiting</th>
            <th scope="col" className="number" title="Of so many that its workers take at once">In flight</th>
            <th scope="col" className="number wide-only">Workers</th>
            <th scope="col" className="number wide-only" title="Messages that ended, a minute, of the last five minutes while you watch">
              A minute
            </th>
            <th scope="col" className="number" title="The mean time in the queue">Wait</th>
            <th scope="col" className="number" title="The mean time in work">Work</th>
            <th scope="col" className="number">Failed</th>
            <th scope="col" className="wide-only">Backlog</th>
          </tr>
        </thead>
        <tbody>
          {stages.map((stage) => {
            const work = stage.recent && stage.recent.ended > 0 ? stage.recent : stage.total;
            const backlog = stage.waiting + stage.batchWaiting;
            return (
              <tr key={keyOf(stage)}>
                <th scope="row">
                  <StageName stage={stage} />
                </th>
                <td className={`number ${backlog > 0 ? "warn" : ""}`} title={lanes(stage.waiting, stage.batchWaiting)}>
                  {count(backlog)}
                </td>
                <td className="number nowrap" title={lanes(stage.inFlight, stage.batchInFlight)}>
                  {count(stage.inFlight + stage.batchInFlight + stage.held)}
                  {stage.room > 0 && <span className="faint"> of {count(stage.room)}</span>}
                </td>
                <td className={`number wide-only ${stage.ready === 0 ? "bad" : ""}`}>
                  {stage.ready === stage.workers ? count(stage.workers) : `${count(stage.ready)} of ${count(stage.workers)}`}
                </td>
                <td className="number wide-only">{perMinute(stage.recent)}</td>
                <td className="number nowrap">{mean(work?.waitedMs)}</td>
                <td className="number nowrap">{mean(work?.workedMs)}</td>
                <td className={`number nowrap ${work && work.failed > 0 ? "bad" : ""}`}>{failedShare(work)}</td>
                <td className="wide-only">
                  <Sparkline values={history.get(keyOf(stage)) ?? []} label={`Backlog of ${nameOf(stage)} of the last five minutes while you watch`} />
                </td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}

const lanes = (interactive: number, batch: number): string => `${count(interactive)} interactive, ${count(batch)} batch`;

function StageName({ stage }: { stage: StageFigures }) {
  return (
    <span className="stage-name">
      <span dir="auto">
        {stage.stage}
        {stage.variant !== "default" && <span className="faint">/{stage.variant}</span>}
      </span>
      {stage.models.length > 0 && (
        <span className="faint wide-only" dir="auto">
          {printable(stage.models.join(", "))}
        </span>
      )}
    </span>
  );
}

function ServiceTable({ processes }: { processes: Process[] }) {
  const [all, setAll] = useState(false);
  if (processes.length === 0) return <Empty icon="operate" title="No service answers" />;
  const services = [...processes].sort((one, other) => Number(one.ready && !one.silent) - Number(other.ready && !other.silent));
  const shown = all ? services : services.slice(0, SHOWN);
  return (
    <div className="panel">
      <div className="scroller" tabIndex={0} role="group" aria-label="Services, a table">
        <table className="compact">
          <thead>
            <tr>
              <th scope="col">Service</th>
              <th scope="col">State</th>
              <th scope="col">Instance</th>
              <th scope="col">Version</th>
              <th scope="col">Started</th>
              <th scope="col">Serves</th>
            </tr>
          </thead>
          <tbody>
            {shown.map((service) => (
              <tr key={`${service.service} ${service.instance}`}>
                <th scope="row">{printable(service.service)}</th>
                <td>
                  <State state={service.silent ? "no answer" : service.ready ? "ready" : "not ready"} />
                </td>
                <td className="mono nowrap">{printable(service.instance)}</td>
                <td>{printable(service.version)}</td>
                <td className="nowrap">
                  <Time at={service.started_at} />
                </td>
                <td className="serves">
                  {service.stages.length === 0 ? (
                    <span className="faint">–</span>
                  ) : (
                    service.stages.map((stage) => (
                      <span key={keyOf(stage)} className="pill">
                        {nameOf(stage)}{" "}
                        {(stage.lane_in_flight["interactive"] ?? 0) + (stage.lane_in_flight["batch"] ?? 0)}/{stage.room}
                      </span>
                    ))
                  )}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {shown.length < services.length && (
        <div className="centered">
          <Button kind="quiet" onClick={() => setAll(true)}>
            Show all {count(services.length)}
          </Button>
        </div>
      )}
    </div>
  );
}
