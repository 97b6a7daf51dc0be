import { useId, useState, type ReactNode } from "react";
import { CONSOLE_HEADERS, noteStatus, ProblemError, problemOf } from "../../api/client";
import { useMay } from "../../lib/session";
import { Button, Field, Problem } from "../../ui/basics";
import { kindName, saidOf, type Json, type Spec } from "./data";
import { useCollectionNames } from "./list";

/** A spec as it is being written: as text where the person writes JSON. */
export interface Draft {
  spec: Spec;
  text: string | null;
}

const PIPELINE: Spec = {
  kind: "pipeline",
  name: "nightly",
  parameters: { collection: "default", folder: "/path/of/documents", questions: "nightly/questions.jsonl", tolerance: 0.02 },
  steps: {
    ingest: { job: { kind: "ingest", collection: "${{ parameters.collection }}", source: { type: "folder", path: "${{ parameters.folder }}" }, prune: true } },
    reindex: { needs: ["ingest"], job: { kind: "reindex", collection: "${{ parameters.collection }}", switch: false } },
    live: { needs: ["reindex"], job: { kind: "evaluate", collection: "${{ parameters.collection }}", input: "${{ parameters.questions }}" } },
    new: { job: { kind: "evaluate", collection: "${{ parameters.collection }}", input: "${{ parameters.questions }}", version: "${{ reindex.version }}" } },
    switch: {
      when: "new.ndcg_at_10 >= live.ndcg_at_10 - parameters.tolerance",
      job: { kind: "switch", collection: "${{ parameters.collection }}", version: "${{ reindex.version }}" },
    },
  },
};

/** What the form begins with for each kind. Those with `fields` have a form; the others are written as JSON. */
const STARTS: Record<string, Spec> = {
  ingest: { kind: "ingest", collection: "default", source: { type: "folder", path: "", pattern: "**/*" }, prune: false },
  reindex: { kind: "reindex", collection: "default", switch: true },
  evaluate: { kind: "evaluate", collection: "default", input: "" },
  pipeline: PIPELINE,
  switch: { kind: "switch", collection: "default" },
  generate_questions: { kind: "generate_questions", model: "", collection: "default", count: 50 },
  tune: { kind: "tune", collection: "default", input: "", trials: 40 },
  batch: { kind: "batch", input: "", endpoint: "/v1/query" },
  command: { kind: "command", command: ["python", "-c", "print('hello')"] },
  delete: { kind: "delete", collection: "default", documents: [] },
  permit: { kind: "permit", collection: "default", documents: [], allowed: ["public"] },
};

const WITH_FIELDS = ["ingest", "reindex", "evaluate", "switch", "generate_questions"];

export function startOf(kind: string, collection?: string): Draft {
  const start = STARTS[kind] ?? (STARTS["ingest"] as Spec);
  const spec = collection && "collection" in start ? { ...start, collection } : start;
  return draftOf(spec);
}

export function draftOf(given: Spec): Draft {
  const spec = given.kind === "pipeline" ? given : saidOf(given);
  return { spec, text: WITH_FIELDS.includes(spec.kind) && shownByFields(spec) ? null : JSON.stringify(spec, null, 2) };
}

/** A form cannot show a source that is no folder. */
const shownByFields = (spec: Spec): boolean =>
  spec.kind !== "ingest" || (isObject(spec["source"]) && spec["source"]["type"] === "folder");

/** The spec to send. Throws a SyntaxError, in words, for text that is not JSON. */
export function specOf({ spec, text }: Draft): Spec {
  if (text === null) return spec;
  const read: unknown = JSON.parse(text);
  if (typeof read !== "object" || read === null || Array.isArray(read)) throw new SyntaxError("Write a JSON object with a member kind.");
  return read as Spec;
}

interface Props {
  draft: Draft;
  onDraft: (draft: Draft) => void;
}

export function SpecForm({ draft, onDraft }: Props) {
  const kind = draft.spec.kind;
  const asText = draft.text !== null;
  const fault = faultOf(draft);
  const toggle = () => {
    if (!asText) onDraft({ ...draft, text: JSON.stringify(draft.spec, null, 2) });
    else if (fault === null) {
      const spec = specOf(draft);
      onDraft({ spec, text: null });
    }
  };
  const formless = !WITH_FIELDS.includes(kind);
  return (
    <div className="form">
      <div className="form-row">
        <Field label="Kind">
          <select value={kind} onChange={(event) => onDraft(startOf(event.target.value, collectionOf(draft.spec)))}>
            {Object.keys(STARTS).map((each) => (
              <option key={each} value={each}>
                {each === "ingest" ? "Ingest a folder" : kindName(each)}
              </option>
            ))}
          </select>
        </Field>
        {!formless && (
          <Button icon="options" aria-pressed={asText} disabled={asText && (fault !== null || !readable(draft))} onClick={toggle}>
            {asText ? "Show the form" : "Edit as JSON"}
          </Button>
        )}
      </div>
      {asText ? (
        <JsonField draft={draft} fault={fault} onDraft={onDraft} />
      ) : (
        <Fields spec={draft.spec} onSpec={(spec) => onDraft({ spec, text: null })} />
      )}
    </div>
  );
}

function readable(draft: Draft): boolean {
  try {
    const spec = specOf(draft);
    return WITH_FIELDS.includes(spec.kind) && shownByFields(spec);
  } catch {
    return false;
  }
}

export function faultOf(draft: Draft): string | null {
  try {
    specOf(draft);
    return null;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

function JsonField({ draft, fault, onDraft }: Props & { fault: string | null }) {
  const text = draft.text ?? "";
  const id = useId();
  return (
    <div className="field">
      <label className="field-label" htmlFor={id}>
        Spec as JSON
      </label>
      <textarea
        id={id}
        className="code"
        spellCheck={false}
        rows={Math.min(28, Math.max(8, text.split("\n").length + 1))}
        value={text}
        aria-invalid={fault !== null}
        aria-describedby={`${id}-hint`}
        onChange={(event) => onDraft({ ...draft, text: event.target.value })}
      />
      <span id={`${id}-hint`} className={`hint ${fault ? "bad" : ""}`} dir="auto">
        {fault ?? "Sluice checks it when you send it, a pipeline as a whole before its first step."}
      </span>
    </div>
  );
}

interface SpecProps {
  spec: Spec;
  onSpec: (spec: Spec) => void;
}

function Fields({ spec, onSpec }: SpecProps) {
  const set = (name: string, value: Json | undefined) => {
    const next: Spec = { ...spec, [name]: value };
    if (value === undefined) delete next[name];
    onSpec(next);
  };
  const collection = <CollectionField value={stringOf(spec["collection"])} onChange={(value) => set("collection", value)} />;
  switch (spec.kind) {
    case "ingest":
      return <IngestFields spec={spec} set={set} collection={collection} />;
    case "reindex":
      return (
        <>
          {collection}
          <div className="form-row">
            <NumberField label="Tokens per chunk" hint="As in the live version if empty" value={spec["chunk_tokens"]} onChange={(v) => set("chunk_tokens", v)} />
            <NumberField label="Overlap in tokens" value={spec["chunk_overlap"]} onChange={(v) => set("chunk_overlap", v)} />
          </div>
          <TextField label="Name of the new version" hint="Chosen by Sluice if empty" value={spec["version"]} onChange={(v) => set("version", v)} />
          <Check label="Make the new version live when it is ready" value={spec["switch"] !== false} onChange={(v) => set("switch", v)} />
        </>
      );
    case "evaluate":
      return (
        <>
          {collection}
          <QuestionsField value={stringOf(spec["input"])} onChange={(value) => set("input", value)} />
          <div className="form-row">
            <TextField label="Version" hint="The live one if empty" value={spec["version"]} onChange={(v) => set("version", v)} />
            <NumberField label="Passages per question" hint="10 if empty" value={spec["top_k"]} onChange={(v) => set("top_k", v)} />
          </div>
          <TextField
            label="Compare with"
            hint="The report of an earlier evaluation of the same questions, such as JOB/report.json"
            value={spec["baseline"]}
            onChange={(v) => set("baseline", v)}
          />
          <Check label="Also write answers and compare them" value={spec["answers"] === true} onChange={(v) => set("answers", v)} />
        </>
      );
    case "switch":
      return (
        <>
          {collection}
          <TextField label="Version" hint="Back to the previous live version if empty" value={spec["version"]} onChange={(v) => set("version", v)} />
        </>
      );
    default:
      return (
        <>
          {collection}
          <TextField label="Model" hint="A name that /v1/models lists" value={spec["model"]} onChange={(v) => set("model", v ?? "")} required />
          <NumberField label="Questions" value={spec["count"]} onChange={(v) => set("count", v)} />
        </>
      );
  }
}

function IngestFields({ spec, set, collection }: { spec: Spec; set: (name: string, value: Json | undefined) => void; collection: ReactNode }) {
  const source = isObject(spec["source"]) ? spec["source"] : {};
  const system = useMay("system");
  const change = (name: string, value: Json) => set("source", { ...source, type: "folder", [name]: value });
  return (
    <>
      {collection}
      <TextField
        label="Folder"
        hint="A folder that the scheduler can read, below SLUICE_SOURCE_ROOTS"
        value={source["path"]}
        onChange={(value) => change("path", value ?? "")}
        required
      />
      <TextField label="Files" hint="A pattern below the folder" value={source["pattern"]} onChange={(value) => change("pattern", value ?? "**/*")} />
      <Check label="Remove documents whose files are gone" value={spec["prune"] === true} onChange={(value) => set("prune", value)} />
      {!system && <p className="hint bad">Reading a folder needs a key with the action system.</p>}
    </>
  );
}

function CollectionField({ value, onChange }: { value: string; onChange: (value: string) => void }) {
  const names = useCollectionNames();
  const id = useId();
  return (
    <Field label="Collection">
      <input required dir="auto" list={id} value={value} maxLength={48} onChange={(event) => onChange(event.target.value)} />
      <datalist id={id}>
        {names.map((name) => (
          <option key={name} value={name} />
        ))}
      </datalist>
    </Field>
  );
}

interface InputProps {
  label: string;
  hint?: string;
  value: Json | undefined;
  required?: boolean;
}

function TextField({ label, hint, value, required = false, onChange }: InputProps & { onChange: (value: string | undefined) => void }) {
  return (
    <Field label={label} {...(hint ? { hint } : {})}>
      <input dir="auto" required={required} value={stringOf(value)} onChange={(event) => onChange(event.target.value || undefined)} />
    </Field>
  );
}

function NumberField({ label, hint, value, onChange }: InputProps & { onChange: (value: number | undefined) => void }) {
  return (
    <Field label={label} {...(hint ? { hint } : {})}>
      <input
        type="number"
        min={0}
        value={typeof value === "number" ? value : ""}
        onChange={(event) => onChange(event.target.value === "" ? undefined : Number(event.target.value))}
      />
    </Field>
  );
}

function Check({ label, value, onChange }: { label: string; value: boolean; onChange: (value: boolean) => void }) {
  return (
    <label className="check">
      <input type="checkbox" checked={value} onChange={(event) => onChange(event.target.checked)} />
      {label}
    </label>
  );
}

/** The questions of an evaluation: the name of a file that Sluice has, or a file from here. */
function QuestionsField({ value, onChange }: { value: string; onChange: (value: string) => void }) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const mayUpload = useMay("jobs");
  const upload = async (file: File | undefined) => {
    if (!file) return;
    setBusy(true);
    setError(null);
    try {
      onChange(await putArtifact(file));
    } catch (failure) {
      setError(failure);
    }
    setBusy(false);
  };
  return (
    <>
      <Field
        label="Questions"
        hint="A file of JSON lines that Sluice has, such as nightly/questions.jsonl. Each line has a question and its sources."
      >
        <input required dir="auto" value={value} placeholder="folder/questions.jsonl" onChange={(event) => onChange(event.target.value)} />
      </Field>
      {mayUpload && (
        <Field label="Or upload a file">
          <input type="file" accept=".jsonl,.ndjson,.json" disabled={busy} onChange={(event) => void upload(event.target.files?.[0])} />
        </Field>
      )}
      {error !== null && <Problem error={error} />}
    </>
  );
}

/** Uploads a file for jobs. Returns the name that specs call it by. */
async function putArtifact(file: File): Promise<string> {
  const safe = file.name.replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^[.-]+/, "") || "questions.jsonl";
  const name = `console-${Date.now().toString(36)}/${safe}`;
  const response = await fetch(`/v1/artifacts/${name}`, {
    method: "PUT",
    headers: { ...CONSOLE_HEADERS, "Content-Type": "application/octet-stream" },
    body: file,
  }).catch((error: unknown) => {
    throw problemOf(error);
  });
  noteStatus(response.status);
  if (!response.ok) throw new ProblemError({ status: response.status, ...((await response.json().catch(() => ({}))) as object) });
  return name;
}

const stringOf = (value: Json | undefined): string => (typeof value === "string" ? value : "");
const collectionOf = (spec: Spec): string | undefined => stringOf(spec["collection"]) || undefined;
const isObject = (value: Json | undefined): value is { [name: string]: Json } =>
  typeof value === "object" && value !== null && !Array.isArray(value);
