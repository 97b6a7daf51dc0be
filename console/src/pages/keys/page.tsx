import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { api, read, type ApiKey, type IssuedKey } from "../../api/client";
import { count, printable } from "../../lib/format";
import { useSession } from "../../lib/session";
import { Button, Empty, Field, IconButton, Loading, PageHead, Problem, State, Time } from "../../ui/basics";
import { Confirm, Dialog } from "../../ui/dialog";
import { IssuedSecret } from "./issued";
import { MakeKey } from "./make";
import "./keys.css";

const KEYS = ["keys"] as const;
const PAGE = 50;

type Doing = { what: "make" } | { what: "rotate" | "revoke"; key: ApiKey } | { what: "issued"; issued: IssuedKey; rotated: boolean } | null;

/** Who may do what. */
export default function KeysPage() {
  const session = useSession();
  const client = useQueryClient();
  const keys = useQuery({ queryKey: KEYS, queryFn: () => read(api.GET("/v1/keys")), refetchInterval: 30_000 });
  const [doing, setDoing] = useState<Doing>(null);
  const [text, setText] = useState("");
  const [state, setState] = useState("active");
  const [most, setMost] = useState(PAGE);
  const refresh = () => client.invalidateQueries({ queryKey: KEYS });
  const issued = (made: IssuedKey, rotated: boolean) => {
    setDoing({ what: "issued", issued: made, rotated });
    void refresh();
  };

  const all = keys.data?.keys ?? [];
  const wanted = text.trim().toLowerCase();
  const listed = all.filter(
    (key) =>
      (state === "" || key.state === state) &&
      (wanted === "" || [key.name, key.id, key.tenant].some((member) => member.toLowerCase().includes(wanted))),
  );
  return (
    <div className="page keys">
      <PageHead title="Keys" lead="An API key says who calls and what they may do. It is in force within a second of a change.">
        {session.keys_required && (
          <Button kind="primary" icon="plus" onClick={() => setDoing({ what: "make" })}>
            Make a key
          </Button>
        )}
      </PageHead>
      {!session.keys_required && (
        <Empty icon="keys" title="This gateway asks for no keys">
          <p>
            Start it with <code>SLUICE_ADMIN_KEY</code>, sign in with that key, and make keys for others here.
          </p>
        </Empty>
      )}
      {keys.isPending && <Loading label="Reading the keys" />}
      {keys.error && <Problem error={keys.error} retry={() => void keys.refetch()} />}
      {keys.data && all.length === 0 && session.keys_required && (
        <Empty icon="keys" title="No keys yet">
          <p>Only the admin key from the gateway's settings is in use. Make one key for each person and program.</p>
        </Empty>
      )}
      {all.length > 0 && (
        <div className="panel">
          <div className="toolbar">
            <input
              type="search"
              aria-label="Find a key by name, id or tenant"
              placeholder="Find by name, id or tenant"
              value={text}
              onChange={(event) => setText(event.target.value)}
            />
            <span className="spacer" />
            <label className="choice">
              <span>State</span>
              <select value={state} onChange={(event) => setState(event.target.value)}>
                <option value="active">active</option>
                <option value="expired">expired</option>
                <option value="revoked">revoked</option>
                <option value="">all</option>
              </select>
            </label>
          </div>
          {listed.length === 0 ? (
            <Empty icon="search" title={wanted ? "No key fits" : `No ${state} keys`} />
          ) : (
            <KeyTable keys={listed.slice(0, most)} own={session.key} onDo={setDoing} />
          )}
          {listed.length > most && (
            <div className="centered">
              <Button kind="quiet" onClick={() => setMost(most + PAGE)}>
                Show more of {count(listed.length)}
              </Button>
            </div>
          )}
        </div>
      )}
      {doing?.what === "make" && <MakeKey onMade={(made) => issued(made, false)} onClose={() => setDoing(null)} />}
      {doing?.what === "issued" && <IssuedSecret issued={doing.issued} rotated={doing.rotated} onClose={() => setDoing(null)} />}
      {doing?.what === "rotate" && <Rotate apiKey={doing.key} onRotated={(made) => issued(made, true)} onClose={() => setDoing(null)} />}
      {doing?.what === "revoke" && (
        <Confirm
          title={`Revoke ${printable(doing.key.name)}?`}
          action="Revoke"
          onClose={() => setDoing(null)}
          onConfirm={async () => {
            await read(api.DELETE("/v1/keys/{key}", { params: { path: { key: doing.key.id } } }));
            await refresh();
          }}
        >
          <p>
            Every request with <code>{doing.key.id}</code> is refused from then on. A revoked key cannot be used again. Its jobs go on.
          </p>
          {doing.key.id === session.key && <p className="bad">You are signed in with this key. Revoking it signs you out.</p>}
        </Confirm>
      )}
    </div>
  );
}

function KeyTable({ keys, own, onDo }: { keys: ApiKey[]; own: string; onDo: (doing: Doing) => void }) {
  return (
    <div className="scroller" tabIndex={0} role="group" aria-label="Keys, a table">
      <table className="compact">
        <thead>
          <tr>
            <th scope="col">Key</th>
            <th scope="col" className="wide-only">State</th>
            <th scope="col" className="wide-only">Tenant</th>
            <th scope="col" className="wide-only">Allows</th>
            <th scope="col" className="wide-only">Collections</th>
            <th scope="col">Expires</th>
            <th scope="col" className="wide-only">Made</th>
            <th scope="col">
              <span className="visually-hidden">Changes</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {keys.map((key) => (
            <tr key={key.id}>
              <th scope="row">
                <span className="key-name">
                  <span dir="auto">{printable(key.name)}</span>
                  <span className="faint mono">
                    {key.id}
                    {key.id === own && " (yours)"}
                  </span>
                  <span className="faint narrow-only">
                    {key.state}, {printable(key.tenant)}: {key.actions.join(", ")}
                  </span>
                </span>
              </th>
              <td className="wide-only">
                <State state={key.state} />
                {key.secrets > 1 && (
                  <span className="faint nowrap" title="The secret from before the rotation still works">
                    {" "}
                    {key.secrets} secrets
                  </span>
                )}
              </td>
              <td className="name wide-only">{printable(key.tenant)}</td>
              <td className="wide-only">{key.actions.join(", ")}</td>
              <td className="collections wide-only">
                {key.collections.length === 1 && key.collections[0] === "*" ? "all" : <Patterns patterns={key.collections} />}
              </td>
              <td className="nowrap">{key.expires_at == null ? <span className="faint">never</span> : <Time at={key.expires_at} />}</td>
              <td className="nowrap wide-only" title={key.created_by ? `by ${printable(key.created_by)}` : ""}>
                <Time at={key.created_at} />
              </td>
              <td className="key-tools">
                {key.state === "active" && (
                  <IconButton label={`Rotate ${key.name}`} icon="retry" onClick={() => onDo({ what: "rotate", key })} />
                )}
                {key.state !== "revoked" && (
                  <IconButton label={`Revoke ${key.name}`} icon="trash" onClick={() => onDo({ what: "revoke", key })} />
                )}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Patterns({ patterns }: { patterns: string[] }) {
  return (
    <span className="mono" title={patterns.join(", ")}>
      {patterns.slice(0, 3).join(", ")}
      {patterns.length > 3 && `, and ${patterns.length - 3} more`}
    </span>
  );
}

const GRACES: [number, string][] = [
  [0, "ends at once"],
  [3_600, "works for another hour"],
  [86_400, "works for another day"],
  [604_800, "works for another week"],
];

function Rotate({ apiKey, onRotated, onClose }: { apiKey: ApiKey; onRotated: (issued: IssuedKey) => void; onClose: () => void }) {
  const [grace, setGrace] = useState(3_600);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const rotate = async () => {
    setBusy(true);
    setError(null);
    try {
      onRotated(await read(api.POST("/v1/keys/{key}/rotate", { params: { path: { key: apiKey.id } }, body: { grace_seconds: grace } })));
    } catch (failure) {
      setError(failure);
      setBusy(false);
    }
  };
  return (
    <Dialog title={`Rotate ${printable(apiKey.name)}`} onClose={onClose} busy={busy}>
      <p>The key gets a new secret. What it allows stays the same.</p>
      <Field label="The secret from before">
        <select value={grace} onChange={(event) => setGrace(Number(event.target.value))}>
          {GRACES.map(([seconds, words]) => (
            <option key={seconds} value={seconds}>
              {words}
            </option>
          ))}
        </select>
      </Field>
      {error !== null && <Problem error={error} />}
      <div className="dialog-actions">
        <Button disabled={busy} onClick={onClose}>Cancel</Button>
        <Button kind="primary" busy={busy} onClick={() => void rotate()}>
          Rotate
        </Button>
      </div>
    </Dialog>
  );
}
