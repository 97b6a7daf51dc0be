import { useQuery } from "@tanstack/react-query";
import { useRef, useState, type KeyboardEvent } from "react";
import { api, read } from "../../api/client";
import { plural } from "../../lib/format";
import { useMay, useSession } from "../../lib/session";
import { Button, IconButton } from "../../ui/basics";
import { Icon } from "../../ui/icon";
import type { AskOptions } from "./use-answer";

interface Props {
  /** The question that a link brings. */
  given: string;
  options: AskOptions;
  onOptions: (options: AskOptions) => void;
  busy: boolean;
  onAsk: (question: string) => void;
  onStop: () => void;
}

export function useCollections(enabled = true) {
  return useQuery({
    queryKey: ["collections"],
    queryFn: () => read(api.GET("/v1/collections")).then((body) => body.collections),
    enabled,
  });
}

/** The collection that is asked as long as nobody has chosen one: `default`, where it is there for the caller. */
export function useUsualCollection(): string {
  const { collections: patterns } = useSession();
  const { data: collections = [] } = useCollections(useMay("read"));
  if (collections.some((one) => one.name === "default")) return "default";
  const first = collections.find((one) => one.documents > 0) ?? collections[0];
  const named = patterns.every((pattern) => !/[*?]/.test(pattern)) && !patterns.includes("default");
  return first?.name ?? (named ? patterns[0] : undefined) ?? "default";
}

/** Where a question is written, with what it is asked of beside it. */
export function Composer({ given, options, onOptions, busy, onAsk, onStop }: Props) {
  const [text, setText] = useState(given);
  // A filter that a link brings may be no filter, which only its field says.
  const [open, setOpen] = useState(() => faultOf(options.filter) !== "");
  const field = useRef<HTMLTextAreaElement>(null);
  const filterFault = faultOf(options.filter);
  const ready = text.trim() !== "" && !busy && filterFault === "";

  const send = () => {
    if (!ready) return;
    onAsk(text.trim());
    setText("");
    field.current?.focus();
  };
  const onKey = (event: KeyboardEvent) => {
    if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing) return;
    event.preventDefault();
    send();
  };

  return (
    <form
      className="composer"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <textarea
        ref={field}
        aria-label="Question"
        placeholder="Ask about your documents"
        dir="auto"
        rows={Math.min(8, Math.max(1, text.split("\n").length))}
        value={text}
        autoFocus
        onChange={(event) => setText(event.target.value)}
        onKeyDown={onKey}
      />
      <div className="composer-bar">
        <CollectionChoice options={options} onOptions={onOptions} />
        <PipelineChoice options={options} onOptions={onOptions} />
        <Button kind="quiet" icon="options" aria-expanded={open} aria-controls="ask-options" onClick={() => setOpen(!open)}>
          {options.filter.trim() ? "Filtered" : "Options"}
        </Button>
        <span className="spacer" />
        {busy ? (
          <Button icon="stop" onClick={onStop}>
            Stop
          </Button>
        ) : (
          <IconButton className="send" label="Ask" icon="send" type="submit" disabled={!ready} />
        )}
      </div>
      {open && (
        <div className="composer-options" id="ask-options">
          <label className="field grow">
            <span className="field-label">Filter of metadata</span>
            <input
              className="mono"
              placeholder='{"year": {"$gte": 2020}}'
              spellCheck={false}
              value={options.filter}
              aria-invalid={filterFault !== ""}
              onChange={(event) => onOptions({ ...options, filter: event.target.value })}
            />
            {filterFault && <span className="hint bad">{filterFault}</span>}
          </label>
          <label className="field">
            <span className="field-label">Passages</span>
            <input
              type="number"
              min={1}
              max={100}
              value={options.topK}
              onChange={(event) => onOptions({ ...options, topK: Math.max(1, Math.min(100, Number(event.target.value) || 5)) })}
            />
          </label>
          <label className="check">
            <input
              type="checkbox"
              checked={options.rerank}
              onChange={(event) => onOptions({ ...options, rerank: event.target.checked })}
            />
            Rerank
          </label>
        </div>
      )}
    </form>
  );
}

function CollectionChoice({ options, onOptions }: Pick<Props, "options" | "onOptions">) {
  const mayRead = useMay("read");
  const collections = useCollections(mayRead);
  if (!mayRead) {
    return (
      <label className="choice">
        <Icon name="documents" size={15} />
        <input
          aria-label="Collection"
          value={options.collection}
          size={12}
          onChange={(event) => onOptions({ ...options, collection: event.target.value })}
        />
      </label>
    );
  }
  const names = new Set([options.collection, ...(collections.data ?? []).map((one) => one.name)]);
  const counts = new Map((collections.data ?? []).map((one) => [one.name, one.documents]));
  return (
    <label className="choice">
      <Icon name="documents" size={15} />
      <select
        aria-label="Collection"
        value={options.collection}
        onChange={(event) => onOptions({ ...options, collection: event.target.value })}
      >
        {[...names].map((name) => (
          <option key={name} value={name}>
            {name}
            {counts.has(name) ? ` · ${plural(counts.get(name)!, "document")}` : ""}
          </option>
        ))}
      </select>
    </label>
  );
}

function PipelineChoice({ options, onOptions }: Pick<Props, "options" | "onOptions">) {
  const pipelines = useQuery({
    queryKey: ["pipelines"],
    queryFn: () => read(api.GET("/v1/pipelines")).then((body) => body.pipelines),
    staleTime: 60_000,
  });
  return (
    <label className="choice">
      <Icon name="operate" size={15} />
      <select
        aria-label="Pipeline"
        value={options.pipeline}
        onChange={(event) => onOptions({ ...options, pipeline: event.target.value })}
      >
        <option value="">usual pipeline</option>
        {(pipelines.data ?? []).map((pipeline) => (
          <option key={pipeline.name} value={pipeline.name} title={pipeline.stages.map((stop) => stop.stage).join(" → ")}>
            {pipeline.name}
          </option>
        ))}
      </select>
    </label>
  );
}

function faultOf(filter: string): string {
  if (filter.trim() === "") return "";
  try {
    const parsed: unknown = JSON.parse(filter);
    return typeof parsed === "object" && parsed !== null && !Array.isArray(parsed) ? "" : "Write a JSON object.";
  } catch {
    return 'Write JSON such as {"lang": "en"}.';
  }
}
