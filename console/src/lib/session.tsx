import { useQuery, useQueryClient } from "@tanstack/react-query";
import { createContext, useContext, type ReactNode } from "react";
import { api, problemOf, read, type Action, type Session } from "../api/client";

const SessionContext = createContext<Session | null>(null);

export const SESSION = ["session"] as const;

export function useSessionQuery() {
  return useQuery({
    queryKey: SESSION,
    queryFn: () => read(api.GET("/v1/session")),
    staleTime: 60_000,
    retry: false,
  });
}

export function SessionProvider({ session, children }: { session: Session; children: ReactNode }) {
  return <SessionContext.Provider value={session}>{children}</SessionContext.Provider>;
}

export function useSession(): Session {
  const session = useContext(SessionContext);
  if (session === null) throw new Error("there is no session");
  return session;
}

/** Null where nobody has signed in. */
export const useOptionalSession = (): Session | null => useContext(SessionContext);

/** Whether the key may do one of these. */
export function useMay(...actions: Action[]): boolean {
  const { actions: allowed } = useSession();
  return actions.some((action) => allowed.includes(action));
}

/** Whether the key may look at all of the tenant: each collection and each document. */
export function useSeesEverything(): boolean {
  const { actions, collections, documents_hidden: hidden } = useSession();
  return actions.includes("read") && collections.includes("*") && !hidden;
}

/** Throws ProblemError where the session goes on. */
export function useSignOut(): () => Promise<void> {
  const client = useQueryClient();
  return async () => {
    try {
      await read(api.DELETE("/v1/session"));
    } catch (error) {
      if (problemOf(error).status !== 401) throw error;
    }
    client.clear();
    await client.invalidateQueries({ queryKey: SESSION });
    window.location.assign("/");
  };
}
