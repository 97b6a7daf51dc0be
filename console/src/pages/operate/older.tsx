import { useEffect, useRef } from "react";
import { useLocation, useNavigate, useSearchParams } from "react-router";
import { Button } from "../../ui/basics";
import { trail } from "../documents/pager";

/** Where the page begins that the address asks for, undefined for the newest. */
export function useBefore(): number | undefined {
  const [search] = useSearchParams();
  const before = Number(search.get("before"));
  return Number.isSafeInteger(before) && before > 0 ? before : undefined;
}

/** Steps from the newest to older ones, as the server pages them. */
export function Older({ label, next, busy }: { label: string; next: number | null; busy: boolean }) {
  const [search] = useSearchParams();
  const { state } = useLocation();
  const navigate = useNavigate();
  const before = useBefore();
  const shown = useRef(before);
  useEffect(() => {
    if (shown.current !== before) window.scrollTo(0, 0);
    shown.current = before;
  }, [before]);
  const go = (place: string, places: string[]) => {
    const changed = new URLSearchParams(search);
    if (place) changed.set("before", place);
    else changed.delete("before");
    void navigate({ search: changed.toString() }, { state: { trail: places } });
  };
  if (before === undefined && next === null) return null;
  const places = trail(state);
  return (
    <nav className="pages" aria-label={label}>
      <Button kind="quiet" disabled={before === undefined} onClick={() => go("", [])}>
        Newest
      </Button>
      <Button kind="quiet" disabled={places.length === 0} onClick={() => go(places.at(-1) ?? "", places.slice(0, -1))}>
        Newer
      </Button>
      <Button kind="quiet" disabled={next === null} busy={busy} onClick={() => go(String(next ?? ""), [...places, String(before ?? "")])}>
        Older
      </Button>
    </nav>
  );
}
