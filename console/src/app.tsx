import { Suspense, useState, type ReactNode } from "react";
import { Link, Navigate, NavLink, Route, Routes, useLocation } from "react-router";
import { ProblemError, type Action } from "./api/client";
import { openConversations } from "./lib/conversations";
import { SessionProvider, useSession, useSessionQuery, useSignOut } from "./lib/session";
import { applyTheme, theme, type Theme } from "./lib/theme";
import { AskPage } from "./pages/ask/page";
import { SignIn } from "./pages/sign-in";
import { Empty, IconButton, Loading, Problem } from "./ui/basics";
import { Dialog } from "./ui/dialog";
import { Boundary, lazyPage } from "./ui/boundary";
import { Icon, Logo, type IconName } from "./ui/icon";

const OperatePage = lazyPage(() => import("./pages/operate/page"));
const KeysPage = lazyPage(() => import("./pages/keys/page"));
const JobsPages = lazyPage(() => import("./pages/jobs/page"));
const DocumentsPage = lazyPage(() => import("./pages/documents/page"));

interface Place {
  to: string;
  label: string;
  icon: IconName;
  needs: Action[];
  also?: string[];
}

const PLACES: Place[] = [
  { to: "/ask", label: "Ask", icon: "ask", needs: ["query"] },
  { to: "/documents", label: "Documents", icon: "documents", needs: ["read"] },
  { to: "/jobs", label: "Jobs", icon: "jobs", needs: ["read"] },
  { to: "/operate", label: "Operate", icon: "operate", needs: ["read", "admin"] },
  { to: "/keys", label: "Keys", icon: "keys", needs: ["admin"] },
];

export function App() {
  const session = useSessionQuery();
  if (session.isPending) return <Loading label="Opening Sluice" />;
  if (session.error instanceof ProblemError && session.error.status === 401) return <SignIn ended={session.data !== undefined} />;
  if (!session.data) {
    return (
      <main className="lonely">
        <Problem error={session.error} retry={() => void session.refetch()} />
      </main>
    );
  }
  openConversations(`${session.data.tenant}.${session.data.key}`, session.data.conversations);
  return (
    <SessionProvider session={session.data}>
      <Shell />
    </SessionProvider>
  );
}

function Shell() {
  const { actions } = useSession();
  const { pathname } = useLocation();
  const places = PLACES.filter((place) => place.needs.some((action) => actions.includes(action)));
  const first = places[0]?.to;
  const may = (...needs: Action[]) => needs.some((action) => actions.includes(action));
  return (
    <div className="shell">
      <a className="skip" href="#main">
        Skip to the content
      </a>
      <aside className="side">
        <NavLink to={first ?? "/"} className="brand" aria-label="Sluice">
          <Logo />
          <span>Sluice</span>
        </NavLink>
        <nav className="places" aria-label="Console">
          {places.map((place) => {
            const inside = place.also?.some((also) => pathname.startsWith(also)) ?? false;
            return (
              <NavLink key={place.to} to={place.to} className={({ isActive }) => (isActive || inside ? "active" : "")}>
                <Icon name={place.icon} />
                <span>{place.label}</span>
              </NavLink>
            );
          })}
        </nav>
        <Identity />
      </aside>
      <main id="main" tabIndex={-1}>
        <Boundary key={pathname.split("/")[1] ?? ""}>
          <Suspense fallback={<Loading />}>
            <Routes>
              <Route path="/" element={first ? <Navigate to={first} replace /> : <NothingAllowed />} />
              <Route path="/ask/:conversation?" element={guard(may("query"), <AskPage />)} />
              <Route path="/operate/*" element={guard(may("read", "query", "admin"), <OperatePage />)} />
              <Route path="/keys" element={guard(may("admin"), <KeysPage />)} />
              <Route path="/jobs/*" element={guard(may("read"), <JobsPages />)} />
              <Route path="/documents/:collection?/:document?" element={guard(may("read"), <DocumentsPage />)} />
              <Route path="/sign-in" element={<Navigate to="/" replace />} />
              <Route path="*" element={<NoSuchPage />} />
            </Routes>
          </Suspense>
        </Boundary>
      </main>
    </div>
  );
}

const guard = (allowed: boolean, page: ReactNode) => (allowed ? page : <NothingAllowed />);

function NoSuchPage() {
  return (
    <Empty icon="search" title="There is no such page">
      <p>
        <Link to="/">Go to the first page</Link>
      </p>
    </Empty>
  );
}

function NothingAllowed() {
  return (
    <Empty icon="keys" title="This key does not allow this page">
      <p>Sign in with another key, or ask the people who run Sluice for one that does.</p>
    </Empty>
  );
}

function Identity() {
  const session = useSession();
  const signOut = useSignOut();
  const [failure, setFailure] = useState<unknown>(null);
  return (
    <div className="identity">
      {session.keys_required && (
        <div className="who">
          <strong title={session.name}>{session.name || session.key}</strong>
          <span className="faint">{session.tenant}</span>
        </div>
      )}
      <ThemeSwitch />
      {session.keys_required && <IconButton label="Sign out" icon="out" onClick={() => void signOut().catch(setFailure)} />}
      {failure !== null && (
        <Dialog title="You are still signed in" onClose={() => setFailure(null)}>
          <Problem error={failure} />
        </Dialog>
      )}
    </div>
  );
}

const NEXT: Record<Theme, Theme> = { system: "light", light: "dark", dark: "system" };
const THEME_ICONS: Record<Theme, IconName> = { system: "system", light: "sun", dark: "moon" };

export function ThemeSwitch() {
  const [chosen, setChosen] = useState<Theme>(theme());
  return (
    <IconButton
      label={`Colours: ${chosen === "system" ? "as the system" : chosen}`}
      icon={THEME_ICONS[chosen]}
      onClick={() => {
        applyTheme(NEXT[chosen]);
        setChosen(NEXT[chosen]);
      }}
    />
  );
}
