import { useInfiniteQuery, useQueryClient } from "@tanstack/react-query";
import { useRef, useState, type FormEvent } from "react";
import { Link, useSearchParams } from "react-router";
import { api, problemOf, read, type DocumentRecord } from "../../api/client";
import { bytes, moment, plural, printable } from "../../lib/format";
import { useGo } from "../../lib/go";
import { useMay } from "../../lib/session";
import { Button, CopyButton, Empty, Facts, Field, Loading, PageHead, Problem, Time } from "../../ui/basics";
import { Dialog } from "../../ui/dialog";
import { Icon } from "../../ui/icon";
import { Passage } from "../ask/source-panel";
import { Crumbs } from "./collection";
import { DeleteDocuments } from "./document-list";
import { jobEnd, paths, useDocument, useRefresh } from "./queries";
import { metadataFault, principalsOf } from "./upload-panel";
import { addTransfers } from "./uploads";

/** One document: what is in the index of it, and what is not. */
export function DocumentView({ collection, id }: { collection: string; id: string }) {
  const document = useDocument(collection, id);
  const mayWrite = useMay("write");
  const go = useGo();
  const [open, setOpen] = useState<"delete" | "replace" | "permissions" | null>(null);
  const close = () => setOpen(null);

  if (document.isPending) return <Loading label="Reading the document" />;
  if (document.error && problemOf(document.error).status === 404) {
    return (
      <Empty icon="documents" title="There is no such document">
        <p>
          It may have been deleted. <Link to={paths.collection(collection)}>Look at the documents of {collection}</Link>.
        </p>
      </Empty>
    );
  }
  if (!document.data) {
    return (
      <div className="page">
        <Problem error={document.error} retry={() => void document.refetch()} />
      </div>
    );
  }
  const record = document.data;
  return (
    <div className="page documents">
      <div className="head">
        <Crumbs collection={collection} />
        <PageHead title={printable(record.name)}>
          {mayWrite && (
            <>
              <Button icon="upload" onClick={() => setOpen("replace")}>
                Replace
              </Button>
              <Button kind="danger" icon="trash" onClick={() => setOpen("delete")}>
                Delete
              </Button>
            </>
          )}
        </PageHead>
      </div>
      {record.warnings.length > 0 && <Warnings document={record} />}
      <div className="document-columns">
        <Passages key={record.sha256 + record.indexed_at} collection={collection} document={record} />
        <aside className="document-facts">
          <section className="panel" aria-label="About the document">
            <Facts
              facts={[
                ["Added", <Time key="added" at={record.indexed_at} />],
                ["From", record.origin ? <bdi key="from">{printable(record.origin)}</bdi> : "an upload"],
                ["Size", bytes(record.bytes)],
                ["Type", record.media_type ? printable(record.media_type) : "by its name"],
                ["Passages", String(record.chunks)],
                [
                  "SHA-256",
                  <span key="hash" className="hash" title={record.sha256}>
                    <code>{record.sha256.slice(0, 12)}…</code>
                    <CopyButton text={() => record.sha256} />
                  </span>,
                ],
              ]}
            />
          </section>
          <Metadata metadata={record.metadata} />
          <section className="panel part" aria-label="Who may see it">
            <div className="part-head">
              <h2>Who may see it</h2>
              {mayWrite && (
                <Button kind="quiet" onClick={() => setOpen("permissions")}>
                  Change
                </Button>
              )}
            </div>
            <Principals allowed={record.allowed} />
          </section>
        </aside>
      </div>
      {open === "delete" && (
        <DeleteDocuments
          collection={collection}
          names={[record.name]}
          onClose={close}
          onDone={() => go(paths.collection(collection), { replace: true })}
        />
      )}
      {open === "permissions" && <ChangePermissions collection={collection} document={record} onClose={close} />}
      {open === "replace" && <Replace collection={collection} document={record} onClose={close} />}
    </div>
  );
}

function Warnings({ document }: { document: DocumentRecord }) {
  return (
    <section className="document-warnings" aria-label="Warnings">
      <Icon name="warning" />
      <div>
        <strong>Not all of this document is in the index</strong>
        <ul>
          {document.warnings.map((warning, index) => (
            <li key={index} dir="auto">
              {printable(warning.detail || warning.kind)}
            </li>
          ))}
        </ul>
      </div>
    </section>
  );
}

/** Characters of a value that may need more lines than are shown at once. */
const LONG = 200;

function Metadata({ metadata }: { metadata: DocumentRecord["metadata"] }) {
  const entries = Object.entries(metadata);
  return (
    <section className="panel part" aria-label="Metadata">
      <h2>Metadata</h2>
      {entries.length === 0 ? (
        <p className="faint">None.</p>
      ) : (
        <dl className="pairs">
          {entries.map(([name, value]) => (
            <div key={name}>
              <dt>
                <bdi>{printable(name)}</bdi>
              </dt>
              {/* A long value scrolls, with the keyboard too. */}
              <dd dir="auto" tabIndex={String(value).length > LONG ? 0 : undefined}>
                {printable(String(value))}
              </dd>
            </div>
          ))}
        </dl>
      )}
    </section>
  );
}

function Principals({ allowed }: { allowed: string[] | null }) {
  if (allowed === null) return <p className="faint">Everybody who may read this collection.</p>;
  if (allowed.length === 0) return <p className="faint">Only those who manage documents.</p>;
  return (
    <ul className="principals">
      {allowed.map((one) => (
        <li key={one} className="pill">
          <bdi>{printable(one)}</bdi>
        </li>
      ))}
    </ul>
  );
}

const PASSAGES = 20;

function Passages({ collection, document }: { collection: string; document: DocumentRecord }) {
  const [search, setSearch] = useSearchParams();
  const first = Math.max(0, Math.min(document.chunks, Math.floor(Number(search.get("passage"))) || 1) - 1);
  const pages = useInfiniteQuery({
    queryKey: ["passages", collection, document.id, document.sha256, document.indexed_at, first],
    initialPageParam: { start: first, limit: PASSAGES },
    queryFn: ({ pageParam }) =>
      read(
        api.GET("/v1/collections/{collection}/documents/{document}/passages", {
          params: { path: { collection, document: document.id }, query: pageParam },
        }),
      ).then((page) => ({ ...page, ...pageParam })),
    getNextPageParam: ({ start, limit, chunks }) => (start + limit < chunks ? { start: start + limit, limit: PASSAGES } : null),
    getPreviousPageParam: ({ start }) =>
      start > 0 ? { start: Math.max(0, start - PASSAGES), limit: Math.min(PASSAGES, start) } : null,
    staleTime: Infinity,
  });
  const passages = pages.data?.pages.flatMap((page) => page.passages) ?? [];
  return (
    <section className="panel document-passages" aria-label="Passages">
      <div className="part-head">
        <h2>{plural(document.chunks, "passage")}</h2>
        {document.chunks > PASSAGES && <GoTo key={first} most={document.chunks} first={first} onGo={(position) => setSearch({ passage: String(position + 1) })} />}
      </div>
      <p className="faint note-line">As questions find them. A passage may repeat the heading and the end of the one before it.</p>
      {pages.hasPreviousPage && (
        <div className="centered">
          <Button kind="quiet" busy={pages.isFetchingPreviousPage} onClick={() => void pages.fetchPreviousPage()}>
            Earlier passages
          </Button>
        </div>
      )}
      {pages.isPending && <Loading label="Reading the passages" />}
      {passages.map((passage) => (
        <Passage key={passage.position} {...passage} />
      ))}
      {pages.error && <Problem error={pages.error} retry={() => void pages.refetch()} />}
      {pages.isSuccess && passages.length === 0 && (
        <Empty icon="search" title="No passages were found">
          <p>The document may have just been changed.</p>
          <Button icon="retry" onClick={() => void pages.refetch()}>
            Look again
          </Button>
        </Empty>
      )}
      {pages.hasNextPage && (
        <div className="centered">
          <Button kind="quiet" busy={pages.isFetchingNextPage} onClick={() => void pages.fetchNextPage()}>
            Later passages
          </Button>
        </div>
      )}
    </section>
  );
}

function GoTo({ most, first, onGo }: { most: number; first: number; onGo: (position: number) => void }) {
  const [typed, setTyped] = useState(String(first + 1));
  return (
    <form
      className="go-to"
      onSubmit={(event) => {
        event.preventDefault();
        onGo(Math.max(0, Math.min(most, Math.floor(Number(typed)) || 1) - 1));
      }}
    >
      <label>
        <span>From passage</span>
        <input type="number" min={1} max={most} value={typed} onChange={(event) => setTyped(event.target.value)} />
      </label>
      <Button type="submit">Go</Button>
    </form>
  );
}

interface ChangeProps {
  collection: string;
  document: DocumentRecord;
  onClose: () => void;
}

type Audience = "everybody" | "listed" | "nobody";

function audienceOf(allowed: string[] | null): Audience {
  if (allowed === null) return "everybody";
  return allowed.length === 0 ? "nobody" : "listed";
}

function ChangePermissions({ collection, document, onClose }: ChangeProps) {
  const client = useQueryClient();
  const refresh = useRefresh(collection);
  const [audience, setAudience] = useState<Audience>(audienceOf(document.allowed));
  const [listed, setListed] = useState((document.allowed ?? []).join("\n"));
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const principals = principalsOf(listed);
  const save = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    const allowed = { everybody: ["public"], nobody: [], listed: principals }[audience];
    try {
      const { job } = await read(
        api.PUT("/v1/collections/{collection}/documents/{document}/permissions", {
          params: { path: { collection, document: document.id } },
          body: { allowed },
        }),
      );
      await jobEnd(job);
      await Promise.all([refresh(), client.invalidateQueries({ queryKey: ["document", collection, document.id] })]);
      onClose();
    } catch (failure) {
      setError(failure);
      setBusy(false);
    }
  };
  const choice = (value: Audience, label: string) => (
    <label className="check">
      <input type="radio" name="audience" checked={audience === value} onChange={() => setAudience(value)} />
      {label}
    </label>
  );
  return (
    <Dialog title="Who may see the document" onClose={onClose} busy={busy}>
      <form className="form" onSubmit={(event) => void save(event)}>
        <fieldset className="choices">
          <legend className="visually-hidden">Who may see it</legend>
          {choice("everybody", "Everybody who may read this collection")}
          {choice("listed", "These users and groups")}
          {audience === "listed" && (
            <textarea
              aria-label="Users and groups, one a line"
              className="mono"
              rows={5}
              spellCheck={false}
              placeholder={"group:hr\nuser:alice"}
              value={listed}
              onChange={(event) => setListed(event.target.value)}
            />
          )}
          {choice("nobody", "Only those who manage documents")}
        </fieldset>
        {error !== null && <Problem error={error} />}
        <div className="dialog-actions">
          <Button disabled={busy} onClick={onClose}>Cancel</Button>
          <Button kind="primary" type="submit" busy={busy} disabled={audience === "listed" && principals.length === 0}>
            Save
          </Button>
        </div>
      </form>
    </Dialog>
  );
}

/** What a document says of itself comes with the new file, so it is not sent along. */
const OWN_FIELDS = new Set(["title", "author", "language", "page", "pages", "pages_without_text"]);

function Replace({ collection, document, onClose }: ChangeProps) {
  const client = useQueryClient();
  const go = useGo();
  const given = Object.fromEntries(Object.entries(document.metadata).filter(([name]) => !OWN_FIELDS.has(name)));
  const [metadata, setMetadata] = useState(Object.keys(given).length > 0 ? JSON.stringify(given) : "");
  const [file, setFile] = useState<File | null>(null);
  const field = useRef<HTMLInputElement>(null);
  const sent = useRef(false);
  const fault = metadataFault(metadata);
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    if (file === null || fault || sent.current) return;
    sent.current = true;
    const chosen = [{ name: document.name, file, fault: "" }];
    addTransfers(collection, chosen, 0, { metadata: metadata.trim(), allowed: "" });
    void client.invalidateQueries({ queryKey: ["documents", collection] });
    go(paths.collection(collection));
  };
  return (
    <Dialog title="Replace the document" onClose={onClose}>
      <form className="form" onSubmit={(event) => void submit(event)}>
        <p>
          The new file takes the name{" "}
          <strong className="name">
            <bdi>{printable(document.name)}</bdi>
          </strong>{" "}
          and the list of who may see it. Questions find the old text until the new one has been read. An unchanged file is
          not read again. The last one is of {moment(document.indexed_at)}.
        </p>
        <div className="file-choice">
          <Button icon="plus" onClick={() => field.current?.click()}>
            Choose a file
          </Button>
          <span className="name">{file ? `${printable(file.name)}, ${bytes(file.size)}` : "No file chosen"}</span>
          <input ref={field} type="file" hidden aria-label="New file" onChange={(event) => setFile(event.target.files?.[0] ?? null)} />
        </div>
        <Field label="Metadata" hint="JSON, for filters of questions.">
          <input className="mono" spellCheck={false} value={metadata} aria-invalid={fault !== ""} onChange={(event) => setMetadata(event.target.value)} />
        </Field>
        {fault && (
          <p className="hint bad" role="alert">
            {fault}
          </p>
        )}
        <div className="dialog-actions">
          <Button onClick={onClose}>Cancel</Button>
          <Button kind="primary" type="submit" icon="upload" disabled={file === null || fault !== ""}>
            Replace
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
