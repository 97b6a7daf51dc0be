import { useEffect, useRef, useState, type FormEvent } from "react";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useSearchParams } from "react-router";
import { api, problemOf, read, type Collection } from "../../api/client";
import { plural, printable } from "../../lib/format";
import { useGo } from "../../lib/go";
import { useMay } from "../../lib/session";
import { Button, Empty, Field, Loading, PageHead, Problem } from "../../ui/basics";
import { Dialog } from "../../ui/dialog";
import { DeleteCollection } from "./delete-collection";
import { DocumentList } from "./document-list";
import { useCollection, useRefresh } from "./queries";
import { SourcesView } from "./sources";
import { UploadPanel } from "./upload-panel";
import { useTransfers } from "./uploads";
import { VersionsView } from "./versions";

const TABS = [
  ["documents", "Documents"],
  ["versions", "Versions"],
  ["sources", "Sources"],
] as const;

/** A collection: its documents, the versions of its index, and where its documents come from. */
export function CollectionView({ name }: { name: string }) {
  const [search] = useSearchParams();
  const wanted = search.get("tab");
  const tab = TABS.find(([key]) => key === wanted)?.[0] ?? "documents";
  const transfers = useTransfers(name);
  const collection = useCollection(name, transfers.running);
  const mayWrite = useMay("write");
  const mayAsk = useMay("query");
  const navigate = useNavigate();
  const go = useGo();
  const [open, setOpen] = useState<"delete" | "settings" | null>(null);
  useFreshAfterUploads(name, transfers.running);

  if (collection.isPending) return <Loading label="Reading the collection" />;
  if (collection.error && problemOf(collection.error).status === 404) {
    return (
      <Empty icon="documents" title={`There is no collection ${printable(name)}`}>
        <p>
          It may have been deleted. <Link to="/documents">Look at all collections</Link>.
        </p>
      </Empty>
    );
  }
  if (!collection.data) {
    return (
      <div className="page">
        <Problem error={collection.error} retry={() => void collection.refetch()} />
      </div>
    );
  }
  const { description, documents, chunks, version } = collection.data;
  return (
    <div className="page documents">
      <div className="head">
        <Crumbs />
        <PageHead
          title={name}
          lead={
            <>
              {description && (
                <span dir="auto" className="description">
                  {printable(description)}
                </span>
              )}
              <span>
                {plural(documents, "document")}, {plural(chunks, "passage")}, version {version}
              </span>
            </>
          }
        >
          {mayAsk && documents > 0 && (
            <Button icon="ask" onClick={() => void navigate(`/ask?collection=${encodeURIComponent(name)}`)}>
              Ask
            </Button>
          )}
          {mayWrite && (
            <>
              <Button icon="options" onClick={() => setOpen("settings")}>
                Settings
              </Button>
              <Button kind="danger" icon="trash" onClick={() => setOpen("delete")}>
                Delete
              </Button>
            </>
          )}
        </PageHead>
      </div>
      {collection.error && <Problem error={collection.error} retry={() => void collection.refetch()} />}
      <nav className="tabs" aria-label={`Parts of ${name}`}>
        {TABS.map(([key, label]) => (
          <Link key={key} to={key === "documents" ? "?" : `?tab=${key}`} aria-current={tab === key ? "page" : undefined}>
            {label}
          </Link>
        ))}
      </nav>
      {tab === "documents" && (
        <>
          {mayWrite && <UploadPanel collection={name} transfers={transfers} compact={documents > 0} />}
          <DocumentList collection={name} total={documents} busy={transfers.running} />
        </>
      )}
      {tab === "versions" && <VersionsView collection={collection.data} />}
      {tab === "sources" && <SourcesView collection={name} />}
      {open === "delete" && (
        <DeleteCollection
          collection={collection.data}
          onClose={() => setOpen(null)}
          onDone={() => go("/documents", { replace: true })}
        />
      )}
      {open === "settings" && <Settings collection={collection.data} onClose={() => setOpen(null)} />}
    </div>
  );
}

export function Crumbs({ collection }: { collection?: string }) {
  return (
    <nav className="crumbs" aria-label="Where you are">
      <Link to="/documents">Documents</Link>
      {collection !== undefined && (
        <>
          <span aria-hidden="true">/</span>
          <Link to={`/documents/${encodeURIComponent(collection)}`}>{collection}</Link>
        </>
      )}
    </nav>
  );
}

/** While uploads run the lists are looked at often; what the last one has changed is shown at once. */
function useFreshAfterUploads(collection: string, running: boolean): void {
  const refresh = useRefresh(collection);
  const before = useRef(running);
  useEffect(() => {
    if (before.current && !running) void refresh();
    before.current = running;
  }, [running, refresh]);
}

function Settings({ collection, onClose }: { collection: Collection; onClose: () => void }) {
  const client = useQueryClient();
  const [before] = useState(collection);
  const [description, setDescription] = useState(before.description);
  const [pipeline, setPipeline] = useState(before.pipeline ?? "");
  const [error, setError] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const pipelines = useQuery({
    queryKey: ["pipelines"],
    queryFn: () => read(api.GET("/v1/pipelines")).then((body) => body.pipelines),
    staleTime: 60_000,
  });
  const names = new Set(["", pipeline, ...(pipelines.data ?? []).map((one) => one.name)]);
  const save = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      const changed = await read(
        api.PATCH("/v1/collections/{collection}", {
          params: { path: { collection: collection.name } },
          // What somebody else has changed meanwhile stays.
          body: {
            ...(description !== before.description ? { description } : {}),
            ...(pipeline !== (before.pipeline ?? "") ? { pipeline: pipeline || null } : {}),
          },
        }),
      );
      client.setQueryData(["collection", collection.name], changed);
      await client.invalidateQueries({ queryKey: ["collections"] });
      onClose();
    } catch (failure) {
      setError(failure);
      setBusy(false);
    }
  };
  return (
    <Dialog title={`Settings of ${collection.name}`} onClose={onClose} busy={busy}>
      <form className="form" onSubmit={(event) => void save(event)}>
        <Field label="Description">
          <textarea rows={3} dir="auto" maxLength={1000} value={description} onChange={(event) => setDescription(event.target.value)} />
        </Field>
        <Field label="Pipeline" hint="Which stages a question passes that names no pipeline.">
          <select value={pipeline} onChange={(event) => setPipeline(event.target.value)}>
            {[...names].map((one) => (
              <option key={one} value={one}>
                {one || "default"}
              </option>
            ))}
          </select>
        </Field>
        {error !== null && <Problem error={error} />}
        <div className="dialog-actions">
          <Button disabled={busy} onClick={onClose}>Cancel</Button>
          <Button kind="primary" type="submit" busy={busy}>
            Save
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
