import { useState } from "react";
import { Link } from "react-router";
import { api } from "../../api/client";
import { bytes, plural, printable } from "../../lib/format";
import { useMay } from "../../lib/session";
import { Bar, Button, Field, IconButton } from "../../ui/basics";
import { Icon } from "../../ui/icon";
import { DocumentName } from "./document-list";
import { DropZone } from "./drop-zone";
import { paths } from "./queries";
import {
  addTransfers,
  cancelTransfers,
  clearTransfers,
  mayTryAgain,
  openJobs,
  retryTransfers,
  type Transfer,
  type Transfers,
  type UploadOptions,
} from "./uploads";

const SHOWN = 50;

interface UploadPanelProps {
  collection: string;
  transfers: Transfers;
  compact: boolean;
}

/** Where files are added to a collection, and what becomes of each. */
export function UploadPanel({ collection, transfers, compact }: UploadPanelProps) {
  const [metadata, setMetadata] = useState("");
  const [allowed, setAllowed] = useState("");
  const [open, setOpen] = useState(false);
  const fault = metadataFault(metadata);
  const options: UploadOptions = { metadata: metadata.trim(), allowed: allowedOf(allowed) };
  return (
    <section className="uploads" aria-label="Upload">
      <DropZone
        compact={compact}
        onFiles={({ chosen, hidden }) => {
          if (fault === "") addTransfers(collection, chosen, hidden, options);
          else setOpen(true);
        }}
      >
        <Button kind="quiet" icon="options" aria-expanded={open} aria-controls="upload-options" onClick={() => setOpen(!open)}>
          {metadata.trim() || allowed.trim() ? "With options" : "Options"}
        </Button>
      </DropZone>
      {open && (
        <div className="panel upload-options" id="upload-options">
          <Field label="Metadata" hint="JSON that every file of the next upload gets. Filters of questions use it.">
            <input
              className="mono"
              placeholder='{"team": "support", "year": 2026}'
              spellCheck={false}
              value={metadata}
              aria-invalid={fault !== ""}
              onChange={(event) => setMetadata(event.target.value)}
            />
          </Field>
          {fault && (
            <p className="hint bad" role="alert">
              {fault} Nothing is uploaded until then.
            </p>
          )}
          <Field label="Who may see them" hint="Users and groups with commas between them. Left empty, a document keeps the list that it has; a new one is for everybody.">
            <input
              className="mono"
              placeholder="group:hr, user:alice"
              spellCheck={false}
              value={allowed}
              onChange={(event) => setAllowed(event.target.value)}
            />
          </Field>
        </div>
      )}
      {transfers.items.length > 0 && <TransferList collection={collection} transfers={transfers} />}
    </section>
  );
}

function TransferList({ collection, transfers }: { collection: string; transfers: Transfers }) {
  const mayCancel = useMay("jobs");
  const [all, setAll] = useState(false);
  const { items, counts, bytes: sizes, hidden } = transfers;
  const failed = items.filter((one) => one.state === "failed");
  const again = items.filter(mayTryAgain);
  const partly = items.filter((one) => one.warnings.length > 0);
  const rest = items.filter((one) => (one.state === "done" && one.warnings.length === 0) || one.state === "cancelled");
  // What needs a look comes first, then what moves, then what waits. What went well is only counted.
  const telling = [...failed, ...ofStates(items, "sending", "reading", "queued"), ...ofStates(items, "waiting"), ...partly];
  const ordered = [...telling, ...rest];
  const shown = all ? ordered : telling.slice(0, SHOWN);
  const ended = transfers.ended;
  const share = items.length === 0 ? 0 : (0.5 * (sizes.total ? sizes.sent / sizes.total : 1) + (0.5 * ended) / items.length);
  const stop = () => {
    cancelTransfers(items);
    if (mayCancel) {
      for (const job of openJobs(collection)) void api.POST("/v1/jobs/{job}/cancel", { params: { path: { job } }, body: {} });
    }
  };
  return (
    <section className="panel transfers" aria-label="Uploads">
      <div className="toolbar">
        <div className="summary" role="status">
          <strong>{transfers.running ? `${ended} of ${plural(items.length, "file")}` : plural(items.length, "file")}</strong>
          {transfers.running && <Bar share={share} label="All uploads" />}
          <span className="faint">{summary(transfers)}</span>
        </div>
        <span className="spacer" />
        {again.length > 0 && !transfers.running && (
          <Button icon="retry" onClick={() => retryTransfers(again)}>
            Try {plural(again.length, "file")} again
          </Button>
        )}
        {transfers.running && (transfers.sending || mayCancel) && (
          <Button icon="stop" onClick={stop}>
            Cancel
          </Button>
        )}
        {!transfers.running && (
          <Button kind="quiet" icon="close" onClick={() => clearTransfers(collection)}>
            Clear
          </Button>
        )}
      </div>
      {hidden > 0 && <p className="note-line faint">{plural(hidden, "hidden file or folder was", "hidden files and folders were")} left out.</p>}
      {transfers.sending && <p className="note-line faint">Keep this window open until all is sent. Other pages of the console may be opened.</p>}
      {shown.length > 0 && (
        <ul className="transfer-rows">
          {shown.map((one) => (
            <TransferRow key={one.id} transfer={one} />
          ))}
        </ul>
      )}
      {(all || ordered.length > shown.length) && (
        <div className="centered">
          <Button kind="quiet" onClick={() => setAll(!all)}>
            {all ? "Show fewer" : `Show all ${plural(ordered.length, "file")}`}
          </Button>
        </div>
      )}
      {counts.failed > 0 && transfers.running && <span className="visually-hidden" role="alert">{plural(counts.failed, "file")} failed</span>}
    </section>
  );
}

const ofStates = (items: Transfer[], ...states: Transfer["state"][]) => items.filter((one) => states.includes(one.state));

function summary({ counts, items, bytes: sizes, sending }: Transfers): string {
  const parts: string[] = [];
  if (sending) parts.push(`${bytes(sizes.sent)} of ${bytes(sizes.total)} sent`);
  if (counts.done > 0) parts.push(`${counts.done} indexed`);
  const partly = items.filter((one) => one.warnings.length > 0).length;
  if (partly > 0) parts.push(`${partly} of them in part`);
  if (counts.failed > 0) parts.push(`${counts.failed} failed`);
  if (counts.cancelled > 0) parts.push(`${counts.cancelled} cancelled`);
  return parts.join(", ");
}

const SAYINGS: Record<Transfer["state"], string> = {
  waiting: "Waiting",
  sending: "Uploading",
  queued: "Queued",
  reading: "Reading",
  done: "Indexed",
  failed: "Failed",
  cancelled: "Cancelled",
};

function TransferRow({ transfer }: { transfer: Transfer }) {
  const { state, name, size, sent, problem, warnings, job, read } = transfer;
  return (
    <li className={`transfer ${state}`}>
      <div className="transfer-name">
        <span className="name">
          <DocumentName name={name} />
        </span>
        {problem && (
          <p className="reason" dir="auto">
            <Icon name="warning" size={15} />
            <span>
              {printable(problem.title)}
              {problem.detail && `: ${printable(problem.detail)}`}
            </span>
          </p>
        )}
        {warnings.map((warning, index) => (
          <p key={index} className="reason partial" dir="auto">
            {printable(warning)}
          </p>
        ))}
      </div>
      <span className="transfer-state">
        {state === "sending" && <Bar share={size ? sent / size : 1} label={`Upload of ${printable(name)}`} />}
        {job && (state === "failed" || state === "queued" || state === "reading") ? (
          <Link to={paths.job(job)} title="Look at the job">
            {SAYINGS[state]}
            {state === "reading" && read.total > 1 && `, ${read.done} of ${read.total} done`}
          </Link>
        ) : (
          <span>{warnings.length > 0 ? "Indexed in part" : SAYINGS[state]}</span>
        )}
        <span className="faint wide-only">{bytes(size)}</span>
      </span>
      {(state === "waiting" || state === "sending") && (
        <IconButton label={`Cancel ${printable(name)}`} icon="close" onClick={() => cancelTransfers([transfer])} />
      )}
      {mayTryAgain(transfer) && (
        <IconButton label={`Try ${printable(name)} again`} icon="retry" onClick={() => retryTransfers([transfer])} />
      )}
    </li>
  );
}

export function metadataFault(text: string): string {
  if (text.trim() === "") return "";
  try {
    const parsed: unknown = JSON.parse(text);
    if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) return "Write a JSON object.";
    const nested = Object.entries(parsed).find(([, value]) => typeof value === "object");
    return nested ? `The value of ${nested[0]} must be a text, a number or a boolean.` : "";
  } catch {
    return 'Write JSON such as {"team": "support"}.';
  }
}

export const principalsOf = (text: string): string[] => text.split(/[,\n]/).map((one) => one.trim()).filter((one) => one !== "");

const allowedOf = (text: string): string => (text.trim() === "" ? "" : JSON.stringify(principalsOf(text)));
