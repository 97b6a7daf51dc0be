import { useState } from "react";
import type { IssuedKey } from "../../api/client";
import { printable } from "../../lib/format";
import { Button, CopyButton } from "../../ui/basics";
import { Dialog } from "../../ui/dialog";
import { Icon } from "../../ui/icon";

/** The secret, this once. Nothing but its own button closes the dialog, so that no stray click loses it. */
export function IssuedSecret({ issued, rotated, onClose }: { issued: IssuedKey; rotated: boolean; onClose: () => void }) {
  const [saved, setSaved] = useState(false);
  return (
    <Dialog title={rotated ? "The new secret" : "The key is made"} onClose={onClose} wide sticky>
      <p>
        {rotated ? "Clients of" : "Give this to"} <strong dir="auto">{printable(issued.key.name)}</strong>
        {rotated ? " use this from now on." : ". It is what clients send as their API key."}
      </p>
      <code className="secret" aria-label="The secret">
        {issued.secret}
      </code>
      <p className="secret-warning">
        <Icon name="warning" size={16} /> It is shown only now. Nobody can look it up later.
      </p>
      <div className="dialog-actions">
        <label className="check saved">
          <input type="checkbox" checked={saved} onChange={(event) => setSaved(event.target.checked)} /> I have stored it
        </label>
        <CopyButton text={() => issued.secret} label="Copy" />
        <Button kind="primary" disabled={!saved} onClick={onClose}>
          Done
        </Button>
      </div>
    </Dialog>
  );
}
