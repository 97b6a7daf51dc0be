import { useEffect, useState, type ButtonHTMLAttributes, type ReactNode } from "react";
import { problemOf } from "../api/client";
import { ago, moment } from "../lib/format";
import { Icon, type IconName } from "./icon";
import { TraceLink } from "./trace-link";

type ButtonProps = ButtonHTMLAttributes<HTMLButtonElement> & {
  kind?: "primary" | "plain" | "quiet" | "danger";
  icon?: IconName;
  busy?: boolean;
};

export function Button({ kind = "plain", icon, busy = false, children, className = "", ...rest }: ButtonProps) {
  return (
    <button type="button" {...rest} className={`button ${kind} ${className}`} disabled={rest.disabled || busy}>
      {busy ? <Spinner /> : icon && <Icon name={icon} size={16} />}
      {children !== undefined && <span>{children}</span>}
    </button>
  );
}

export function IconButton({ label, icon, ...rest }: ButtonHTMLAttributes<HTMLButtonElement> & { label: string; icon: IconName }) {
  return (
    <button type="button" {...rest} className={`icon-button ${rest.className ?? ""}`} aria-label={label} title={label}>
      <Icon name={icon} />
    </button>
  );
}

export const Spinner = () => <span className="spinner" aria-hidden="true" />;

export function Loading({ label = "Loading" }: { label?: string }) {
  return (
    <div className="loading" role="status">
      <Spinner /> <span>{label}</span>
    </div>
  );
}

interface ProblemProps {
  error: unknown;
  retry?: () => void;
  /** What `retry` does. */
  action?: string;
}

/** A failed request in the gateway's own words. */
export function Problem({ error, retry, action = "Try again" }: ProblemProps) {
  const problem = problemOf(error);
  return (
    <div className="problem" role="alert">
      <Icon name="warning" />
      <div>
        <strong>{problem.title}</strong>
        {problem.message && <p dir="auto">{problem.message}</p>}
        {problem.traceId && (
          <p className="faint">
            Trace <TraceLink id={problem.traceId} />
          </p>
        )}
      </div>
      {retry && (
        <Button icon="retry" onClick={retry}>
          {action}
        </Button>
      )}
    </div>
  );
}

export function Empty({ icon, title, children }: { icon: IconName; title: string; children?: ReactNode }) {
  return (
    <div className="empty">
      <Icon name={icon} size={28} />
      <h2>{title}</h2>
      {children}
    </div>
  );
}

const TONES: Record<string, string> = {
  active: "good",
  cancelled: "muted",
  expired: "muted",
  failed: "bad",
  following: "info",
  live: "good",
  "no answer": "warn",
  "not ready": "bad",
  ready: "good",
  retired: "muted",
  revoked: "bad",
  running: "info",
  building: "info",
  skipped: "muted",
  starting: "warn",
  succeeded: "good",
  paused: "warn",
};

export function State({ state }: { state: string }) {
  return <span className={`state ${TONES[state] ?? "muted"}`}>{state}</span>;
}

export function Time({ at }: { at: number | null | undefined }) {
  const [, tick] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => tick((value) => value + 1), 15_000);
    return () => clearInterval(timer);
  }, []);
  if (at == null) return <span className="faint">–</span>;
  return (
    <time dateTime={new Date(at * 1000).toISOString()} title={moment(at)}>
      {ago(at)}
    </time>
  );
}

export function Bar({ share, label, tone = "info" }: { share: number; label: string; tone?: "info" | "good" | "bad" }) {
  const value = Math.max(0, Math.min(1, share));
  return (
    <span className={`bar ${tone}`} role="progressbar" aria-label={label} aria-valuenow={Math.round(value * 100)} aria-valuemin={0} aria-valuemax={100}>
      <span style={{ inlineSize: `${value * 100}%` }} />
    </span>
  );
}

export function CopyButton({ text, label = "Copy", className }: { text: () => string; label?: string; className?: string }) {
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), 1500);
    return () => clearTimeout(timer);
  }, [copied]);
  return (
    <Button
      kind="quiet"
      icon={copied ? "check" : "copy"}
      className={className ?? ""}
      onClick={() => void copyText(text()).then(() => setCopied(true))}
    >
      {copied ? "Copied" : label}
    </Button>
  );
}

/** The clipboard's own API exists on https and localhost alone. */
async function copyText(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = document.createElement("textarea");
    field.value = text;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
}

export function Field({ label, hint, children }: { label: string; hint?: string; children: ReactNode }) {
  return (
    <label className="field">
      <span className="field-label">{label}</span>
      {children}
      {hint && <span className="hint">{hint}</span>}
    </label>
  );
}

export function PageHead({ title, children, lead }: { title: string; children?: ReactNode; lead?: ReactNode }) {
  useEffect(() => {
    document.title = `${title} · Sluice`;
  }, [title]);
  return (
    <header className="page-head">
      <div>
        <h1 dir="auto">{title}</h1>
        {lead && <p className="lead">{lead}</p>}
      </div>
      {children && <div className="actions">{children}</div>}
    </header>
  );
}

export function Facts({ facts }: { facts: [string, ReactNode][] }) {
  return (
    <dl className="facts">
      {facts.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}
