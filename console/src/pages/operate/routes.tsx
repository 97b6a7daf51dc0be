import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useRef, useState } from "react";
import { api, ProblemError, read, type Route } from "../../api/client";
import { count, plural, printable } from "../../lib/format";
import { useMay } from "../../lib/session";
import { Button, Empty, Field, Loading, PageHead, Problem, Time } from "../../ui/basics";
import { Confirm } from "../../ui/dialog";
import { Icon } from "../../ui/icon";
import { CompareLinks } from "./compare";
import { failedShare, mean, percentile, perMinute } from "./overview";
import { byStage, keyOf, type Live, type StageFigures, type Work } from "./status";

const ROUTES = ["routes"] as const;

/** Which share of the queries each variant of a stage gets. */
export function RoutesPage({ live }: { live: Live }) {
  const routes = useQuery({
    queryKey: ROUTES,
    queryFn: () => read(api.GET("/v1/routes")),
    refetchInterval: 5_000,
  });
  const [since, setSince] = useState<"opened" | "start">("opened");
  const found = [...(routes.data?.routes ?? [])].sort((one, other) => byStage(one.stage, other.stage));
  // A stage stays where it was, and with it what is being changed of it, while one of its workers does not answer.
  const chosen = useRef(new Set<string>());
  for (const route of found) if (route.variants.length > 1 || route.revision > 0) chosen.current.add(route.stage);
  const several = found.filter((route) => chosen.current.has(route.stage));
  const single = found.filter((route) => !several.includes(route));
  if (routes.isPending) return <Loading label="Reading the routes" />;
  return (
    <>
      <PageHead title="Routes" lead="A route gives each variant of a stage a share of the queries.">
        {live.status && (
          <label className="choice">
            <span>Figures</span>
            <select value={since} onChange={(event) => setSince(event.target.value === "start" ? "start" : "opened")}>
              <option value="opened">since you opened this page</option>
              <option value="start">since the workers started</option>
            </select>
          </label>
        )}
      </PageHead>
      {routes.error && <Problem error={routes.error} retry={() => void routes.refetch()} />}
      {several.map((route) => (
        <RouteCard key={route.stage} route={route} live={live} since={since} />
      ))}
      {several.length === 0 && !routes.error && (
        <Empty icon="operate" title="Every stage has one variant">
          <p>
            Start a second worker of a stage under another name, and move queries to it here. For a generator:{" "}
            <code>SLUICE_GENERATOR_VARIANT=canary</code>.
          </p>
        </Empty>
      )}
      {single.length > 0 && (
        <section aria-labelledby="single-heading">
          <h2 id="single-heading">Stages with one variant</h2>
          <ul className="chips">
            {single.map((route) => (
              <li key={route.stage} className="pill">
                {printable(route.stage)}: {plural(route.variants[0]?.workers ?? 0, "worker")}
              </li>
            ))}
          </ul>
        </section>
      )}
    </>
  );
}

/** Stages that generators serve too. */
const FOLLOWERS = ["condense", "expand"];

type Shares = Record<string, number>;

/** What the writer sees before it is applied: percentages by variant, and the revision that it began with. */
interface Draft {
  shares: Shares;
  shadows: Shares;
  revision: number;
}

interface Before {
  weights: Shares;
  shadows: Shares;
  revision: number;
  after: number;
}

const sharesOf = (route: Route): Shares => Object.fromEntries(route.variants.map((one) => [one.variant, one.share]));
const shadowsOf = (route: Route): Shares => Object.fromEntries(route.variants.map((one) => [one.variant, one.shadow]));
const some = (values: Shares): Shares => Object.fromEntries(Object.entries(values).filter(([, value]) => value > 0));

function RouteCard({ route, live, since }: { route: Route; live: Live; since: "opened" | "start" }) {
  const client = useQueryClient();
  const changes = useMay("admin");
  const [draft, setDraft] = useState<Draft | null>(null);
  const [before, setBefore] = useState<Before | null>(null);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const [resetting, setResetting] = useState<number | null>(null);
  const shares = draft?.shares ?? sharesOf(route);
  const shadows = draft?.shadows ?? shadowsOf(route);
  const stale = draft !== null && draft.revision !== route.revision;
  const params = (revision: number) => ({ path: { stage: route.stage }, header: { "if-match": `"${revision}"` } });
  const current = (): Draft => draft ?? { shares: sharesOf(route), shadows: shadowsOf(route), revision: route.revision };

  const write = async (revision: number, weights: Shares, copies: Shares): Promise<number> => {
    if (Object.keys(some(weights)).length === 0 && Object.keys(some(copies)).length === 0) {
      await read(api.DELETE("/v1/routes/{stage}", { params: params(revision) }));
      return 0;
    }
    const body = { weights: some(weights), shadows: some(copies) };
    const written = await read(api.PUT("/v1/routes/{stage}", { params: params(revision), body }));
    return written.revision;
  };

  const run = async (work: () => Promise<void>) => {
    setBusy(true);
    setError(null);
    try {
      await work();
      await client.invalidateQueries({ queryKey: ROUTES });
    } catch (failure) {
      setError(failure);
    }
    setBusy(false);
  };

  const apply = () =>
    run(async () => {
      if (!draft) return;
      const known = { weights: route.revision > 0 ? weightsOf(route) : {}, shadows: some(shadowsOf(route)), revision: draft.revision };
      const after = await write(draft.revision, draft.shares, draft.shadows);
      setBefore({ ...known, after });
      setDraft(null);
    });

  const undo = () =>
    run(async () => {
      if (!before) return;
      await write(before.after, before.weights, before.shadows);
      setBefore(null);
      setDraft(null);
    });

  const forget = () => {
    setDraft(null);
    setError(null);
    void client.invalidateQueries({ queryKey: ROUTES });
  };

  return (
    <section className="panel route" aria-label={`Route of ${route.stage}`}>
      <div className="section-head">
        <h2 dir="auto">{printable(route.stage)}</h2>
        {route.revision > 0 && (
          <p className="faint">
            Changed <Time at={route.updated_at} />
            {route.updated_by && (
              <>
                {" "}
                by <span dir="auto">{printable(route.updated_by)}</span>
              </>
            )}
          </p>
        )}
        <span className="spacer" />
        {changes && route.revision > 0 && (
          <Button kind="quiet" icon="history" onClick={() => setResetting(route.revision)}>
            Send all to default
          </Button>
        )}
      </div>
      {FOLLOWERS.includes(route.stage) && route.revision === 0 && (
        <p className="faint">It follows the route of generate until it has one of its own.</p>
      )}
      <VariantTable route={route} live={live} since={since} />
      <CompareLinks route={route} />
      {changes && route.variants.length > 1 && (
        <form
          className="weights"
          onSubmit={(event) => {
            event.preventDefault();
            void apply();
          }}
        >
          {route.variants
            .filter((one) => one.variant !== "default" || route.variants.length > 2)
            .map((one) => (
              <Weight
                key={one.variant}
                stage={route.stage}
                variant={one.variant}
                share={shares[one.variant] ?? 0}
                shadow={shadows[one.variant] ?? 0}
                onShare={(share) => setDraft({ ...current(), shares: withShare(shares, one.variant, share) })}
                onShadow={(shadow) => setDraft({ ...current(), shadows: { ...shadows, [one.variant]: shadow } })}
              />
            ))}
          {stale && <p className="hint bad">Somebody has changed this route since you began.</p>}
          {error !== null && <Problem error={error} {...(conflict(error) ? { retry: forget, action: "Read it again" } : {})} />}
          {(draft ?? before) && (
            <div className="route-actions">
              {draft && <span className="faint draft">{inWords(shares)}</span>}
              {before && !draft && (
                <span className="applied" role="status">
                  <Icon name="check" size={16} /> Applied
                </span>
              )}
              <span className="spacer" />
              {before && !draft && (
                <Button icon="history" busy={busy} onClick={() => void undo()}>
                  Undo
                </Button>
              )}
              {draft && <Button onClick={forget}>Discard</Button>}
              {draft && (
                <Button kind="primary" type="submit" busy={busy}>
                  Apply
                </Button>
              )}
            </div>
          )}
        </form>
      )}
      {resetting !== null && (
        <Confirm
          title={`Send all queries of ${route.stage} to default?`}
          action="Send all to default"
          onClose={() => setResetting(null)}
          onConfirm={async () => {
            await read(api.DELETE("/v1/routes/{stage}", { params: params(resetting) }));
            setDraft(null);
            setBefore(null);
            await client.invalidateQueries({ queryKey: ROUTES });
          }}
        >
          <p>The weights and the shadows of the stage are removed. Queries that wait for another variant stay with it.</p>
        </Confirm>
      )}
    </section>
  );
}

const weightsOf = (route: Route): Shares => Object.fromEntries(route.variants.map((one) => [one.variant, one.weight]));
const conflict = (error: unknown): boolean => error instanceof ProblemError && error.status === 412;

/** The shares with one of them changed; the others keep their proportions. */
export function withShare(shares: Shares, variant: string, share: number): Shares {
  const others = Object.entries(shares).filter(([name]) => name !== variant);
  const rest = 100 - share;
  const sum = others.reduce((total, [, value]) => total + value, 0);
  const spread = others.map(([name, value]): [string, number] => {
    if (sum > 0) return [name, (value / sum) * rest];
    return [name, name === "default" || others.length === 1 ? rest : 0];
  });
  const known = spread.some(([, value]) => value > 0) || rest === 0;
  if (!known && spread[0]) spread[0] = [spread[0][0], rest];
  return { ...Object.fromEntries(spread.map(([name, value]) => [name, round(value)])), [variant]: share };
}

const round = (value: number): number => Math.round(value * 1000) / 1000;
const shown = (share: number): string => `${Math.round(share * 10) / 10} %`;

const inWords = (shares: Shares): string =>
  Object.entries(shares)
    .map(([variant, share]) => `${variant} ${shown(share)}`)
    .join(", ");

interface WeightProps {
  stage: string;
  variant: string;
  share: number;
  shadow: number;
  onShare: (share: number) => void;
  onShadow: (shadow: number) => void;
}

function Weight({ stage, variant, share, shadow, onShare, onShadow }: WeightProps) {
  const bounded = (text: string): number => Math.max(0, Math.min(100, Number(text) || 0));
  return (
    <div className="weight">
      <label className="weight-slider">
        <span className="field-label" dir="auto">
          {printable(variant)}
        </span>
        <input
          type="range"
          min={0}
          max={100}
          step={1}
          value={Math.round(share)}
          aria-label={`Share of ${stage}/${variant}`}
          aria-valuetext={shown(share)}
          onChange={(event) => onShare(bounded(event.target.value))}
        />
      </label>
      <Field label="Share, %">
        <input
          type="number"
          min={0}
          max={100}
          step="any"
          value={Math.round(share * 10) / 10}
          aria-label={`Share of ${stage}/${variant} in percent`}
          onChange={(event) => onShare(bounded(event.target.value))}
        />
      </Field>
      {variant !== "default" && (
        <Field label="Shadow, %">
          <input
            type="number"
            min={0}
            max={100}
            step="any"
            value={shadow}
            aria-label={`Shadow of ${stage}/${variant} in percent`}
            title="Of so many queries it gets a copy, whose answer the reader does not get"
            onChange={(event) => onShadow(bounded(event.target.value))}
          />
        </Field>
      )}
    </div>
  );
}

function VariantTable({ route, live, since }: { route: Route; live: Live; since: "opened" | "start" }) {
  const figures = new Map(live.stages.map((stage) => [keyOf(stage), stage]));
  const known = live.status !== undefined;
  const workOf = (stage: StageFigures | undefined): Work | null => (since === "start" ? stage?.total : stage?.recent) ?? null;
  return (
    <>
      {route.warnings.map((warning) => (
        <p key={warning} className="route-warning" dir="auto">
          <Icon name="warning" size={16} /> {printable(warning)}
        </p>
      ))}
      <div className="scroller" tabIndex={0} role="group" aria-label={`Variants of ${route.stage}, a table`}>
        <table className="compact">
          <thead>
            <tr>
              <th scope="col">Variant</th>
              <th scope="col" className="number">Share</th>
              <th scope="col" className="number wide-only">Shadow</th>
              <th scope="col" className="number wide-only">Workers</th>
              {known && (
                <>
                  <th scope="col" className="number wide-only">Waiting</th>
                  <th scope="col" className="number">{since === "start" ? "Queries" : "A minute"}</th>
                  <th scope="col" className="number wide-only" title="The mean time in the queue">Wait</th>
                  <th scope="col" className="number" title="The mean time in work">Work</th>
                  <th scope="col" className="number wide-only" title="The time in work that 95 of 100 queries do not exceed">Work, p95</th>
                  <th scope="col" className="number">Failed</th>
                </>
              )}
            </tr>
          </thead>
          <tbody>
            {route.variants.map((one) => {
              const stage = figures.get(`${route.stage}/${one.variant}`);
              const work = workOf(stage);
              return (
                <tr key={one.variant}>
                  <th scope="row">
                    <span className="stage-name">
                      <span dir="auto">{printable(one.variant)}</span>
                      {stage && stage.models.length > 0 && <span className="faint">{printable(stage.models.join(", "))}</span>}
                    </span>
                  </th>
                  <td className="number nowrap">{shown(one.share)}</td>
                  <td className="number nowrap wide-only">{one.shadow > 0 ? shown(one.shadow) : "–"}</td>
                  <td className={`number wide-only ${one.workers === 0 ? "bad" : ""}`}>{count(one.workers)}</td>
                  {known && (
                    <>
                      <td className="number wide-only">{stage ? count(stage.waiting + stage.batchWaiting) : "–"}</td>
                      <td className="number">{since === "start" ? (work ? count(work.ended) : "–") : perMinute(work)}</td>
                      <td className="number nowrap wide-only">{mean(work?.waitedMs)}</td>
                      <td className="number nowrap">{mean(work?.workedMs)}</td>
                      <td className="number nowrap wide-only">{percentile(work?.worked95)}</td>
                      <td className={`number nowrap ${work && work.failed > 0 ? "bad" : ""}`}>{failedShare(work)}</td>
                    </>
                  )}
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
    </>
  );
}
