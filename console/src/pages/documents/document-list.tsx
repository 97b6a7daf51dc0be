import { useEffect, useState } from "react";
import { Link, useLocation, useSearchParams } from "react-router";
import { api, read, type DocumentRecord } from "../../api/client";
import { bytes, count, plural, printable } from "../../lib/format";
import { useMay, useSession } from "../../lib/session";
import { Button, Empty, Loading, Problem, Time } from "../../ui/basics";
import { Confirm } from "../../ui/dialog";
import { Pager, trail } from "./pager";
import { jobEnd, paths, useDocumentPage, useRefresh } from "./queries";

const TYPING_MS = 250;

interface Props {
  collection: string;
  total: number;
  busy: boolean;
}

export function DocumentList({ collection, total, busy }: Props) {
  const [search, setSearch] = useSearchParams();
  const { state } = useLocation();
  const mayWrite = useMay("write");
  const { documents_hidden: hidden } = useSession();
  const text = search.get("q") ?? "";
  const warned = search.get("warned") === "1";
  const after = search.get("after") ?? "";
  const page = useDocumentPage(collection, { text, warned, after }, busy);
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set());
  const [deleting, setDeleting] = useState(false);
  const documents = page.data?.documents ?? [];
  const names = documents.map((one) => one.name).filter((name) => chosen.has(name));
  const filtered = text !== "" || warned;

  const narrow = (changes: Record<string, string>) => {
    setSearch(
      (before) => {
        const changed = new URLSearchParams(before);
        changed.delete("after");
        for (const [name, value] of Object.entries(changes)) {
          if (value) changed.set(name, value);
          else changed.delete(name);
        }
        return changed;
      },
      { replace: true },
    );
  };
  const toggle = (name: string) => {
    const changed = new Set(chosen);
    if (!changed.delete(name)) changed.add(name);
    setChosen(changed);
  };

  if (page.isSuccess && total === 0 && documents.length === 0 && !filtered && after === "") {
    if (busy) return null;
    return (
      <Empty icon="documents" title="This collection has no documents yet">
        <p>
          {mayWrite ? "Drop some above, or use " : "Somebody with a key that may write can add some, or use "}
          <code>sluice ingest PATH --collection {collection}</code>.
        </p>
      </Empty>
    );
  }
  return (
    <section className="panel" aria-label="Documents" aria-busy={page.isPlaceholderData}>
      <div className="toolbar">
        <SearchField value={text} onChange={(q) => narrow({ q })} />
        <label className="check">
          <input type="checkbox" checked={warned} onChange={(event) => narrow({ warned: event.target.checked ? "1" : "" })} />
          Read in part
        </label>
        <span className="spacer" />
        {names.length > 0 && (
          <Button kind="danger" icon="trash" onClick={() => setDeleting(true)}>
            Delete {plural(names.length, "document")}
          </Button>
        )}
      </div>
      {page.error && <Problem error={page.error} retry={() => void page.refetch()} />}
      {page.isPending && <Loading label="Reading the documents" />}
      {page.isSuccess && documents.length === 0 && (
        <Empty icon="search" title="No document matches">
          {filtered && (
            <Button onClick={() => narrow({ q: "", warned: "" })}>Show all documents</Button>
          )}
        </Empty>
      )}
      {documents.length > 0 && (
        <table className="document-table">
          <thead>
            <tr>
              {mayWrite && (
                <th scope="col" className="tick">
                  <input
                    type="checkbox"
                    aria-label="Choose all documents of this page"
                    checked={names.length === documents.length}
                    onChange={() => setChosen(new Set(names.length === documents.length ? [] : documents.map((one) => one.name)))}
                  />
                </th>
              )}
              <th scope="col">Document</th>
              <th scope="col" className="number">Passages</th>
              <th scope="col" className="number wide-only">Size</th>
              <th scope="col" className="wide-only">Added</th>
            </tr>
          </thead>
          <tbody>
            {documents.map((one) => (
              <tr key={one.id}>
                {mayWrite && (
                  <td className="tick">
                    <input
                      type="checkbox"
                      aria-label={`Choose ${printable(one.name)}`}
                      checked={chosen.has(one.name)}
                      onChange={() => toggle(one.name)}
                    />
                  </td>
                )}
                <th scope="row" className="name row-name">
                  <Link to={paths.document(collection, one.id)}>
                    <DocumentName name={one.name} />
                  </Link>
                  <Marks document={one} />
                </th>
                <td className="number">{count(one.chunks)}</td>
                <td className="number wide-only nowrap">{bytes(one.bytes)}</td>
                <td className="wide-only nowrap">
                  <Time at={one.indexed_at} />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {hidden && <p className="faint note-line padded">Documents that this key may not see are not listed and not counted.</p>}
      <Pager
        label="Pages of documents"
        after={after}
        previous={trail(state).at(-1)}
        next={page.data?.next ?? undefined}
        busy={page.isPlaceholderData}
      />
      {deleting && (
        <DeleteDocuments
          collection={collection}
          names={names}
          onClose={() => setDeleting(false)}
          onDone={() => setChosen(new Set())}
        />
      )}
    </section>
  );
}

/** A name with its folders, which step back behind the file. */
export function DocumentName({ name }: { name: string }) {
  const shown = printable(name);
  const file = shown.lastIndexOf("/") + 1;
  return (
    <bdi>
      {file > 0 && <span className="folder">{shown.slice(0, file)}</span>}
      {shown.slice(file)}
    </bdi>
  );
}

function Marks({ document }: { document: DocumentRecord }) {
  if (document.warnings.length === 0 && document.allowed === null) return null;
  const [first] = document.warnings;
  return (
    <div className="marks">
      {document.allowed !== null && <span className="pill">Restricted</span>}
      {first && (
        <>
          <span className="pill warn">Read in part</span>
          <span className="faint clamp" dir="auto">
            {printable(first.detail)}
            {document.warnings.length > 1 && ` And ${document.warnings.length - 1} more.`}
          </span>
        </>
      )}
    </div>
  );
}

function SearchField({ value, onChange }: { value: string; onChange: (value: string) => void }) {
  const [typed, setTyped] = useState(value);
  useEffect(() => setTyped(value), [value]);
  useEffect(() => {
    if (typed === value) return;
    const timer = setTimeout(() => onChange(typed), TYPING_MS);
    return () => clearTimeout(timer);
    // Only typing starts the wait, not the page that is drawn anew.
  }, [typed]);
  return (
    <input
      type="search"
      aria-label="Find documents by name"
      placeholder="Find by name"
      spellCheck={false}
      value={typed}
      onChange={(event) => setTyped(event.target.value)}
    />
  );
}

interface DeleteProps {
  collection: string;
  names: string[];
  onClose: () => void;
  onDone: () => void;
}

const SHOWN = 5;

export function DeleteDocuments({ collection, names, onClose, onDone }: DeleteProps) {
  const refresh = useRefresh(collection);
  const [fixed] = useState(names);
  return (
    <Confirm
      title={fixed.length === 1 ? "Delete this document?" : `Delete ${plural(fixed.length, "document")}?`}
      action={fixed.length === 1 ? "Delete the document" : `Delete ${plural(fixed.length, "document")}`}
      onClose={onClose}
      onConfirm={async () => {
        const { job } = await read(
          api.DELETE("/v1/collections/{collection}/documents", {
            params: { path: { collection }, query: { name: fixed } },
          }),
        );
        await jobEnd(job);
        await refresh();
        onDone();
      }}
    >
      <ul className="names">
        {fixed.slice(0, SHOWN).map((name) => (
          <li key={name} className="name">
            <DocumentName name={name} />
          </li>
        ))}
        {fixed.length > SHOWN && <li className="faint">and {plural(fixed.length - SHOWN, "more", "more")}</li>}
      </ul>
      <p>Their passages go out of the index. To have them again, upload them again.</p>
    </Confirm>
  );
}
