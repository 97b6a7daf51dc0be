import { Dialog as AriakitDialog, DialogDismiss, DialogHeading } from "@ariakit/react";
import { useState, type ReactNode } from "react";
import { Button, IconButton, Problem } from "./basics";

interface DialogProps {
  title: string;
  onClose: () => void;
  children: ReactNode;
  wide?: boolean;
  side?: boolean;
  sticky?: boolean;
  /** What was asked for is on its way: closing the dialog would not take it back, and would lose the reason where it fails. */
  busy?: boolean;
}

/** A dialog that holds the focus; Escape and its cross close it. With `side` it is a sheet at the edge; with
 * `sticky` only its own buttons close it. */
export function Dialog({ title, onClose, children, wide = false, side = false, sticky = false, busy = false }: DialogProps) {
  const holds = sticky || busy;
  return (
    <AriakitDialog
      open
      onClose={onClose}
      unmountOnHide
      hideOnEscape={!holds}
      hideOnInteractOutside={!holds}
      preventBodyScroll={false}
      className={`${side ? "sheet" : "dialog"} ${wide ? "wide" : ""}`}
      backdrop={<div className="backdrop" />}
    >
      <div className="dialog-head">
        <DialogHeading dir="auto">{title}</DialogHeading>
        {!sticky && <DialogDismiss disabled={busy} render={<IconButton label="Close" icon="close" />} />}
      </div>
      <div className="dialog-body">{children}</div>
    </AriakitDialog>
  );
}

interface ConfirmProps {
  title: string;
  children: ReactNode;
  action: string;
  onConfirm: () => Promise<unknown>;
  onClose: () => void;
}

/** Asks before what cannot be undone, and stays open with the reason where it fails. */
export function Confirm({ title, children, action, onConfirm, onClose }: ConfirmProps) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const confirm = async () => {
    setBusy(true);
    try {
      await onConfirm();
      onClose();
    } catch (failure) {
      setError(failure);
      setBusy(false);
    }
  };
  return (
    <Dialog title={title} onClose={onClose} busy={busy}>
      {children}
      {error !== null && <Problem error={error} />}
      <div className="dialog-actions">
        <Button disabled={busy} onClick={onClose}>Cancel</Button>
        <Button kind="danger" busy={busy} onClick={() => void confirm()}>
          {action}
        </Button>
      </div>
    </Dialog>
  );
}
