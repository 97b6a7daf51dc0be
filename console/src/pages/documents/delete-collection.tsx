import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { api, read, type Collection } from "../../api/client";
import { plural } from "../../lib/format";
import { Button, Field, Problem } from "../../ui/basics";
import { Dialog } from "../../ui/dialog";

interface Props {
  collection: Collection;
  onClose: () => void;
  onDone: () => void;
}

/** Asks for the name, as nothing of a collection can be brought back. */
export function DeleteCollection({ collection, onClose, onDone }: Props) {
  const client = useQueryClient();
  const [typed, setTyped] = useState("");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const remove = async () => {
    setBusy(true);
    setError(null);
    try {
      await read(api.DELETE("/v1/collections/{collection}", { params: { path: { collection: collection.name } } }));
      // What is still on the page would only be told that it is gone.
      for (const kind of ["collection", "documents", "document"]) {
        void client.invalidateQueries({ queryKey: [kind, collection.name], refetchType: "none" });
      }
      await client.invalidateQueries({ queryKey: ["collections"] });
      onDone();
      onClose();
    } catch (failure) {
      setError(failure);
      setBusy(false);
    }
  };
  return (
    <Dialog title={`Delete the collection ${collection.name}?`} onClose={onClose} busy={busy}>
      <form
        className="form"
        onSubmit={(event) => {
          event.preventDefault();
          if (typed === collection.name) void remove();
        }}
      >
        <p>
          Its {plural(collection.documents, "document")} and all its versions are deleted. They cannot be brought back.
          Questions to it fail at once.
        </p>
        <Field label={`Type ${collection.name} to confirm`}>
          <input value={typed} data-autofocus="true" spellCheck={false} autoCapitalize="none" onChange={(event) => setTyped(event.target.value)} />
        </Field>
        {error !== null && <Problem error={error} />}
        <div className="dialog-actions">
          <Button disabled={busy} onClick={onClose}>Cancel</Button>
          <Button kind="danger" type="submit" icon="trash" busy={busy} disabled={typed !== collection.name}>
            Delete the collection
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
