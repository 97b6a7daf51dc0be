import { useInfiniteQuery } from "@tanstack/react-query";
import { useEffect, useRef, useState } from "react";
import { Link } from "react-router";
import { api, problemOf, read, type Source } from "../../api/client";
import { percent, plural, printable } from "../../lib/format";
import { useMay } from "../../lib/session";
import { Button, IconButton, Loading, Problem } from "../../ui/basics";
import { SourceJudge } from "./feedback";
import type { Voice } from "./use-feedback";

const AROUND = 2;
const MORE = 5;

/** The passage of a citation among those around it in its document. */
export function SourcePanel({ source, collection, voice, onClose }: { source: Source; collection: string; voice: Voice | null; onClose: () => void }) {
  const mayRead = useMay("read", "write", "jobs", "system", "admin");
  const close = useRef<HTMLDivElement>(null);
  const opener = useRef<Element | null>(null);
  // Its end comes before the focus goes back.
  useEffect(() => coverOthers(close.current!.parentElement!), []);
  useEffect(
    () => () => {
      // The focus was in the panel, and goes back to the citation.
      if (document.activeElement === document.body && opener.current instanceof HTMLElement) opener.current.focus();
    },
    [],
  );
  useEffect(() => {
    if (!close.current?.parentElement?.contains(document.activeElement)) opener.current = document.activeElement;
    close.current?.focus();
    // A dialog above takes the key for itself.
    const escape = (event: KeyboardEvent) => event.key === "Escape" && !document.querySelector('[role="dialog"]') && onClose();
    document.addEventListener("keydown", escape);
    return () => document.removeEventListener("keydown", escape);
  }, [source, onClose]);

  return (
    <aside className="source-panel" aria-label={`Source ${source.index}`}>
      <div className="source-head" tabIndex={-1} ref={close}>
        <span className="citation static">{source.index}</span>
        <h2 dir="auto">
          {mayRead && source.document_id ? (
            <Link to={`/documents/${encodeURIComponent(collection)}/${source.document_id}?passage=${source.position + 1}`}>
              {printable(source.document)}
            </Link>
          ) : (
            printable(source.document)
          )}
        </h2>
        <IconButton label="Close the source" icon="close" onClick={onClose} />
      </div>
      <div className="source-meta">
        <span>Passage {source.position + 1}</span>
        <span title="How well the passage fits the question">Score {percent(source.score)}</span>
        {source.copies.length > 0 && <span>{plural(source.copies.length, "more copy", "more copies")}</span>}
      </div>
      {voice && (
        <div className="judge-line">
          <SourceJudge index={source.index} voice={voice} />
          {voice.error != null && <Problem error={voice.error} />}
        </div>
      )}
      <Metadata metadata={source.metadata} />
      {mayRead && source.document_id ? (
        <Surroundings key={`${source.document_id}.${source.position}`} source={source} collection={collection} />
      ) : (
        <Passage position={source.position} text={source.text} marked />
      )}
    </aside>
  );
}

const NARROW = "(max-width: 760px)";

/** On a narrow screen the panel lies above all others: nobody may reach these with the keyboard. Returns what ends it. */
function coverOthers(panel: HTMLElement): () => void {
  const narrow = window.matchMedia(NARROW);
  const others: HTMLElement[] = [];
  for (let inner: HTMLElement = panel; inner.parentElement && inner !== document.body; inner = inner.parentElement) {
    for (const other of inner.parentElement.children) {
      if (other !== inner && other instanceof HTMLElement && !other.inert) others.push(other);
    }
  }
  const cover = (covers: boolean) => others.forEach((other) => (other.inert = covers));
  const follow = () => cover(narrow.matches);
  follow();
  narrow.addEventListener("change", follow);
  return () => {
    narrow.removeEventListener("change", follow);
    cover(false);
  };
}

function Metadata({ metadata }: { metadata: Source["metadata"] }) {
  const entries = Object.entries(metadata ?? {});
  if (entries.length === 0) return null;
  return (
    <dl className="tags">
      {entries.map(([name, value]) => (
        <div key={name}>
          <dt>{printable(name)}</dt>
          <dd>{printable(String(value))}</dd>
        </div>
      ))}
    </dl>
  );
}

function Surroundings({ source, collection }: { source: Source; collection: string }) {
  const [first] = useState(Math.max(0, source.position - AROUND));
  const pages = useInfiniteQuery({
    queryKey: ["passages", collection, source.document_id, first],
    initialPageParam: { start: first, limit: 2 * AROUND + 1 },
    queryFn: ({ pageParam }) =>
      read(
        api.GET("/v1/collections/{collection}/documents/{document}/passages", {
          params: { path: { collection, document: source.document_id }, query: pageParam },
        }),
      ).then((page) => ({ ...page, ...pageParam })),
    getNextPageParam: ({ start, limit, chunks }) => (start + limit < chunks ? { start: start + limit, limit: MORE } : null),
    getPreviousPageParam: ({ start }) =>
      start > 0 ? { start: Math.max(0, start - MORE), limit: Math.min(MORE, start) } : null,
    staleTime: Infinity,
  });
  const cited = <Passage position={source.position} text={source.text} marked />;
  if (pages.isPending) return <Loading label="Reading the document" />;
  if (pages.error) {
    return (
      <>
        {cited}
        {problemOf(pages.error).status === 404 ? (
          <p className="note">The document is no longer there. This is the passage as the answer had it.</p>
        ) : (
          <Problem error={pages.error} retry={() => void pages.refetch()} />
        )}
      </>
    );
  }
  const passages = pages.data.pages.flatMap((page) => page.passages);
  // What stands at its place may be another text, where the document was indexed anew.
  const place = passages.find((passage) => passage.position === source.position && passage.text === source.text) ?? passages.find((passage) => passage.text === source.text);
  return (
    <>
      {!place && (
        <>
          {cited}
          <p className="note">The document has been indexed anew since this answer, which had the passage above. Below is what stands there now.</p>
        </>
      )}
      {pages.hasPreviousPage && (
        <Button kind="quiet" busy={pages.isFetchingPreviousPage} onClick={() => void pages.fetchPreviousPage()}>
          Earlier passages
        </Button>
      )}
      {passages.map((passage) => (
        <Passage key={passage.position} {...passage} marked={passage === place} />
      ))}
      {pages.hasNextPage && (
        <Button kind="quiet" busy={pages.isFetchingNextPage} onClick={() => void pages.fetchNextPage()}>
          Later passages
        </Button>
      )}
    </>
  );
}

export function Passage({ position, text, marked = false }: { position: number; text: string; marked?: boolean }) {
  const place = useRef<HTMLElement>(null);
  useEffect(() => {
    if (marked) place.current?.scrollIntoView({ block: "center" });
  }, [marked]);
  return (
    <section ref={place} className={`passage ${marked ? "marked" : ""}`} aria-label={`Passage ${position + 1}`}>
      <span className="passage-number" aria-hidden="true">
        {position + 1}
      </span>
      {marked ? (
        <p dir="auto">
          <mark className="whole">{printable(text)}</mark>
        </p>
      ) : (
        <p dir="auto">{printable(text)}</p>
      )}
    </section>
  );
}
