import { useQueryClient } from "@tanstack/react-query";
import { useEffect, useState, type FormEvent } from "react";
import { api, read } from "../api/client";
import { SESSION } from "../lib/session";
import { Button, Field, Problem } from "../ui/basics";
import { Logo } from "../ui/icon";

export function SignIn() {
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
        <Field label="API key" hint="It stays in a cookie that scripts cannot read, for twelve hours.">
          <input
            type="password"
            name="key"
            autoComplete="current-password"
            placeholder="sk-sluice-…"
            required
            autoFocus
            value={key}
            onChange={(event) => setKey(event.target.value)}
          />
        </Field>
        {error !== null && <Problem error={error} />}
        <Button kind="primary" type="submit" busy={busy} disabled={key.trim() === ""}>
          Sign in
        </Button>
        <p className="faint">
          No key? Whoever runs this Sluice makes one: <code>sluice keys create</code>.
        </p>
      </form>
    </main>
  );
}
