import { useState, type FormEvent } from "react";
import { api, read, type Action, type IssuedKey, type NewKey } from "../../api/client";
import { useSession } from "../../lib/session";
import { Button, Field, Problem } from "../../ui/basics";
import { Dialog } from "../../ui/dialog";
import { Icon } from "../../ui/icon";

const ACTIONS: [Action, string][] = [
  ["query", "ask questions, chat, embed"],
  ["read", "look at collections, documents and jobs"],
  ["write", "change collections and documents; with read"],
  ["jobs", "submit and control jobs and schedules; with read"],
  ["system", "jobs that run programs or read the server's folders; with read"],
  ["metrics", "read the gateway's metrics, of all tenants"],
  ["admin", "run the platform: everything, for all tenants"],
];

const DAY = 86_400;
const EXPIRIES: [number, string][] = [
  [0, "never"],
  [DAY, "in a day"],
  [7 * DAY, "in a week"],
  [30 * DAY, "in 30 days"],
  [90 * DAY, "in 90 days"],
  [365 * DAY, "in a year"],
];

const listed = (text: string): string[] => text.split(/[\s,]+/).filter((part) => part !== "");
const limit = (text: string): number | null => (text.trim() === "" ? null : Number(text));

export function MakeKey({ onMade, onClose }: { onMade: (issued: IssuedKey) => void; onClose: () => void }) {
  const session = useSession();
  const [name, setName] = useState("");
  const [tenant, setTenant] = useState(session.tenant);
  const [actions, setActions] = useState<Action[]>(["query", "read"]);
  const [collections, setCollections] = useState("*");
  const [expiry, setExpiry] = useState(90 * DAY);
  const [principals, setPrincipals] = useState("");
  const [requests, setRequests] = useState("");
  const [tokens, setTokens] = useState("");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);

  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    const body: NewKey = {
      name: name.trim(),
      tenant: tenant.trim(),
      actions,
      collections: listed(collections),
      principals: listed(principals),
      expires_in: expiry > 0 ? expiry : null,
      requests_per_minute: limit(requests),
      tokens_per_minute: limit(tokens),
    };
    try {
      onMade(await read(api.POST("/v1/keys", { body })));
    } catch (failure) {
      setError(failure);
      setBusy(false);
    }
  };

  const toggle = (action: Action, on: boolean) =>
    setActions((chosen) => (on ? [...chosen, action] : chosen.filter((one) => one !== action)));

  return (
    <Dialog title="Make a key" onClose={onClose} wide busy={busy}>
      <form className="make-key" onSubmit={(event) => void submit(event)}>
        <Field label="Name" hint="Whose it is or what for. The audit log and jobs show it.">
          <input value={name} maxLength={100} required autoFocus onChange={(event) => setName(event.target.value)} />
        </Field>
        <fieldset className="allows">
          <legend className="field-label">It may</legend>
          {ACTIONS.map(([action, words]) => (
            <label key={action} className="check">
              <input type="checkbox" checked={actions.includes(action)} onChange={(event) => toggle(action, event.target.checked)} />
              <span>
                <strong>{action}</strong> <span className="faint">{words}</span>
              </span>
            </label>
          ))}
        </fieldset>
        <div className="pair">
          <Field label="Tenant" hint="Whose collections and jobs it is for.">
            <input value={tenant} required onChange={(event) => setTenant(event.target.value)} />
          </Field>
          <Field label="Expires">
            <select value={expiry} onChange={(event) => setExpiry(Number(event.target.value))}>
              {EXPIRIES.map(([seconds, words]) => (
                <option key={seconds} value={seconds}>
                  {words}
                </option>
              ))}
            </select>
          </Field>
        </div>
        <Field label="Collections" hint="Names, with * and ? as wildcards, separated by commas.">
          <input value={collections} required onChange={(event) => setCollections(event.target.value)} />
        </Field>
        <details className="more">
          <summary>
            <Icon name="chevron" size={14} /> Limits and permissions
          </summary>
          <div className="pair">
            <Field label="Requests a minute" hint="Empty: no limit.">
              <input type="number" min={1} step={1} value={requests} onChange={(event) => setRequests(event.target.value)} />
            </Field>
            <Field label="Tokens a minute" hint="Empty: no limit.">
              <input type="number" min={1} step={1} value={tokens} onChange={(event) => setTokens(event.target.value)} />
            </Field>
          </div>
          <Field label="Looks at documents as" hint="Such as group:hr; * sees every document. Empty: as its actions say.">
            <input value={principals} onChange={(event) => setPrincipals(event.target.value)} />
          </Field>
        </details>
        {error !== null && <Problem error={error} />}
        <div className="dialog-actions">
          <Button disabled={busy} onClick={onClose}>Cancel</Button>
          <Button kind="primary" type="submit" busy={busy} disabled={name.trim() === "" || actions.length === 0}>
            Make the key
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
