import { useCallback, useEffect, useRef } from "react";
import { useNavigate } from "react-router";

/** Goes to another page when a request has ended, unless its reader has left the page that began it. */
export function useGo(): (to: string, options?: { replace?: boolean }) => void {
  const navigate = useNavigate();
  const here = useRef(false);
  useEffect(() => {
    here.current = true;
    return () => void (here.current = false);
  }, []);
  return useCallback(
    (to, options) => {
      if (here.current) void navigate(to, options);
    },
    [navigate],
  );
}
