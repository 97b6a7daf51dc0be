import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useState, type FormEvent } from "react";
import { useLocation, useSearchParams } from "react-router";
import { api, ProblemError, read } from "../api/client";
import { SESSION } from "../lib/session";
import { Button, Field, Problem } from "../ui/basics";
import { Logo } from "../ui/icon";

const FAILURES: Record<string, string> = {
  expired: "The sign-in took too long, or was begun in another browser. Sign in again.",
  "no-grant": "Your account may not use this Sluice. Ask the people who run it for access.",
  provider: "The provider could not be asked. Try again in a moment; the gateway's log says more.",
  refused: "The provider has not signed you in.",
  "too-many-groups": "Your account is in too many groups. Ask the people who run Sluice to have fewer of them sent.",
};

/** The name of the OpenID provider with which people may sign in, null where there is none. */
function useOpenId() {
  return useQuery({
    queryKey: ["sign-in-options"],
    queryFn: async () => ((await (await fetch("/sign-in/options")).json()) as { openid: string | null }).openid,
    staleTime: Infinity,
    retry: false,
  });
}

/** With `ended` somebody was signed in until now. */
export function SignIn({ ended }: { ended: boolean }) {
  const [search] = useSearchParams();
  const { pathname, search: query } = useLocation();
  const openId = useOpenId();
  const failed = FAILURES[search.get("failed") ?? ""];
  const client = useQueryClient();
  const [key, setKey] = useState("");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  useEffect(() => {
    document.title = "Sign in · Sluice";
  }, []);

  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    // A header takes no other characters, and no key has them.
    if (!/^[\x21-\x7e]+$/.test(key.trim())) {
      setError(new ProblemError({ title: "This is not an API key", detail: "It has characters that no key has. Copy the key once more." }));
      setBusy(false);
      return;
    }
    try {
      const headers = { Authorization: `Bearer ${key.trim()}` };
      client.setQueryData(SESSION, await read(api.POST("/v1/session", { headers })));
      await client.invalidateQueries();
    } catch (failure) {
      setError(failure);
      setBusy(false);
    }
  };

  return (
    <main className="sign-in">
      <form className="panel" onSubmit={(event) => void submit(event)}>
        <div className="sign-in-brand">
          <Logo />
          <h1>Sign in to Sluice</h1>
        </div>
        {ended && error === null && (
          <p className="problem" role="status">
            Your session has ended, or the key is no longer in force. Sign in again to go on here.
          </p>
        )}
        {failed && (
          <p className="problem" role="alert">
            {failed}
          </p>
        )}
        {openId.data && (
          <>
            <a className="button primary" href={`/sign-in/openid?${new URLSearchParams({ to: pathname === "/sign-in" ? "/" : pathname + query })}`}>
              <span>Sign in with {openId.data}</span>
            </a>
            <p className="or">or with an API key</p>
          </>
        )}
        <Field label="API key" hint="It stays in a cookie that scripts cannot read, for twelve hours.">
          <input
            type="password"
            name="key"
            autoComplete="current-password"
            placeholder="sk-sluice-…"
            required
            autoFocus={!openId.data}
            value={key}
            onChange={(event) => setKey(event.target.value)}
          />
        </Field>
        {error !== null && <Problem error={error} />}
        <Button kind={openId.data ? "plain" : "primary"} type="submit" busy={busy} disabled={key.trim() === ""}>
          Sign in
        </Button>
        <p className="faint">
          No key? Whoever runs this Sluice makes one: <code>sluice keys create</code>.
        </p>
      </form>
    </main>
  );
}
