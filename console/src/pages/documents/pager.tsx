import { useLocation, useNavigate, useSearchParams } from "react-router";
import { Button } from "../../ui/basics";

/** The places where the pages before this one began, kept with the entry of the browser's history. */
export function trail(state: unknown): string[] {
  if (typeof state !== "object" || state === null || !("trail" in state) || !Array.isArray(state.trail)) return [];
  return state.trail.filter((place) => typeof place === "string");
}

interface Props {
  label: string;
  after: string;
  previous: string | undefined;
  next: string | undefined;
  busy: boolean;
}

/** Steps through a listing that the server pages; the address says where one is. */
export function Pager({ label, after, previous, next, busy }: Props) {
  const [search] = useSearchParams();
  const { state } = useLocation();
  const navigate = useNavigate();
  const go = (place: string, places: string[]) => {
    const changed = new URLSearchParams(search);
    if (place) changed.set("after", place);
    else changed.delete("after");
    void navigate({ search: changed.toString() }, { state: { trail: places } });
  };
  if (after === "" && next === undefined) return null;
  return (
    <nav className="pager" aria-label={label}>
      <Button kind="quiet" disabled={after === ""} onClick={() => go("", [])}>
        First
      </Button>
      <Button kind="quiet" disabled={previous === undefined} onClick={() => go(previous ?? "", trail(state).slice(0, -1))}>
        Previous
      </Button>
      <Button kind="quiet" disabled={next === undefined} busy={busy} onClick={() => go(next ?? "", [...trail(state), after])}>
        Next
      </Button>
    </nav>
  );
}
