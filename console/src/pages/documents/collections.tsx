import { useQueryClient } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";
import { Link, useLocation, useSearchParams } from "react-router";
import { api, problemOf, read, type Collection } from "../../api/client";
import { count, plural, printable } from "../../lib/format";
import { useGo } from "../../lib/go";
import { useMay } from "../../lib/session";
import { Button, Empty, Field, IconButton, Loading, PageHead, Problem, State, Time } from "../../ui/basics";
import { Dialog } from "../../ui/dialog";
import type { Collected } from "./collect";
import { DeleteCollection } from "./delete-collection";
import { DropZone } from "./drop-zone";
import { Pager, trail } from "./pager";
import { paths, useCollectionPage } from "./queries";
import { addTransfers, useIsUploading } from "./uploads";

export function CollectionsView() {
  const [search] = useSearchParams();
  const after = search.get("after") ?? "";
  const page = useCollectionPage(after);
  const mayWrite = useMay("write");
  const [creating, setCreating] = useState<Collected | null>(null);
  const [deleting, setDeleting] = useState<Collection | null>(null);
  const go = useGo();
  const location = useLocation();
  const collections = page.data?.collections ?? [];
  const isEmpty = page.isSuccess && collections.length === 0 && after === "";

  return (
    <div className="page documents">
      <PageHead title="Documents" lead="Collections of documents that questions are asked of.">
        {mayWrite && (
          <Button kind="primary" icon="plus" onClick={() => setCreating({ chosen: [], hidden: 0 })}>
            New collection
          </Button>
        )}
      </PageHead>
      {page.error && <Problem error={page.error} retry={() => void page.refetch()} />}
      {page.isPending && <Loading label="Reading the collections" />}
      {isEmpty && (
        <Empty icon="documents" title="There are no collections yet">
          {mayWrite ? <p>Drop documents below, and name the collection that they make.</p> : <p>This key cannot make one.</p>}
        </Empty>
      )}
      {page.isSuccess && collections.length === 0 && after !== "" && (
        <Empty icon="search" title="There are no more collections">
          <p>
            <Link to="/documents">Go to the first ones</Link>
          </p>
        </Empty>
      )}
      {collections.length > 0 && (
        <section className="panel scroller" aria-label="Collections" aria-busy={page.isPlaceholderData}>
          <table>
            <thead>
              <tr>
                <th scope="col">Collection</th>
                <th scope="col" className="number">Documents</th>
                <th scope="col" className="number wide-only">Passages</th>
                <th scope="col">State</th>
                <th scope="col" className="wide-only">Created</th>
                {mayWrite && (
                  <th scope="col">
                    <span className="visually-hidden">Actions</span>
                  </th>
                )}
              </tr>
            </thead>
            <tbody>
              {collections.map((one) => (
                <tr key={one.name}>
                  <th scope="row" className="name row-name">
                    <Link to={paths.collection(one.name)}>{one.name}</Link>
                    {one.description && (
                      <p className="faint clamp" dir="auto">
                        {printable(one.description)}
                      </p>
                    )}
                  </th>
                  <td className="number">{count(one.documents)}</td>
                  <td className="number wide-only">{count(one.chunks)}</td>
                  <td>
                    <CollectionState collection={one} />
                  </td>
                  <td className="wide-only nowrap">
                    <Time at={one.created_at} />
                  </td>
                  {mayWrite && (
                    <td className="number">
                      <IconButton label={`Delete the collection ${one.name}`} icon="trash" onClick={() => setDeleting(one)} />
                    </td>
                  )}
                </tr>
              ))}
            </tbody>
          </table>
          <Pager
            label="Pages of collections"
            busy={page.isPlaceholderData}
            previous={trail(location.state).at(-1)}
            next={page.data?.next ?? undefined}
            after={after}
          />
        </section>
      )}
      {mayWrite && page.isSuccess && <DropZone whole onFiles={setCreating} />}
      {creating && (
        <UploadToNew
          collected={creating}
          onClose={() => setCreating(null)}
          onDone={(name) => go(paths.collection(name))}
        />
      )}
      {deleting && <DeleteCollection collection={deleting} onClose={() => setDeleting(null)} onDone={() => undefined} />}
    </div>
  );
}

function CollectionState({ collection }: { collection: Collection }) {
  const isUploading = useIsUploading(collection.name);
  if (isUploading) return <span className="state info">uploading</span>;
  const building = collection.versions.filter((version) => version.state === "building" || version.state === "following");
  if (building.length > 0) return <State state="building" />;
  return collection.documents === 0 ? <State state="empty" /> : <State state="live" />;
}

const NAME = /^[a-z0-9][a-z0-9_-]{0,47}$/;

interface UploadToNewProps {
  collected: Collected;
  onClose: () => void;
  onDone: (name: string) => void;
}

/** Makes a collection, or takes one that is there, and starts the uploads into it. */
function UploadToNew({ collected, onClose, onDone }: UploadToNewProps) {
  const client = useQueryClient();
  const [name, setName] = useState("");
  const [description, setDescription] = useState("");
  const [error, setError] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const files = collected.chosen.length;
  const wrong = name !== "" && !NAME.test(name);

  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      await makeOrFind(name, description, files > 0);
      await client.invalidateQueries({ queryKey: ["collections"] });
      if (files > 0) addTransfers(name, collected.chosen, collected.hidden, { metadata: "", allowed: "" });
      onDone(name);
    } catch (failure) {
      setError(failure);
      setBusy(false);
    }
  };

  return (
    <Dialog title={files > 0 ? `Upload ${plural(files, "file")}` : "New collection"} onClose={onClose} busy={busy}>
      <form className="form" onSubmit={(event) => void submit(event)}>
        <Field
          label="Collection"
          hint={files > 0 ? "A new name makes a collection. The name of one that is there adds to it." : "a-z, 0-9, - and _, at most 48."}
        >
          <input
            value={name}
            data-autofocus="true"
            required
            maxLength={48}
            spellCheck={false}
            autoCapitalize="none"
            aria-invalid={wrong}
            placeholder="handbook"
            onChange={(event) => setName(event.target.value)}
          />
        </Field>
        {wrong && (
          <p className="hint bad" role="alert">
            Use a-z, 0-9, - and _, beginning with a letter or a digit.
          </p>
        )}
        <Field label="Description" hint="Optional.">
          <input value={description} dir="auto" maxLength={1000} onChange={(event) => setDescription(event.target.value)} />
        </Field>
        {error !== null && <Problem error={error} />}
        <div className="dialog-actions">
          <Button disabled={busy} onClick={onClose}>Cancel</Button>
          <Button kind="primary" type="submit" busy={busy} disabled={!NAME.test(name)}>
            {files > 0 ? "Upload" : "Create"}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}

/** A collection that is there with other settings takes the files too, unless a description was written for a new one. */
async function makeOrFind(name: string, description: string, takesFiles: boolean): Promise<void> {
  try {
    await read(api.POST("/v1/collections", { body: { name, description } }));
  } catch (failure) {
    if (!(problemOf(failure).status === 409 && takesFiles && description === "")) throw failure;
  }
}
