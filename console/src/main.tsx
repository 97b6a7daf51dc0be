import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { BrowserRouter } from "react-router";
import { onSignedOut, ProblemError } from "./api/client";
import { App } from "./app";
import { SESSION } from "./lib/session";
import { applyTheme } from "./lib/theme";
import "./styles.css";

applyTheme();

const client = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 5_000,
      // A problem that the request itself has is not mended by another try.
      retry: (tries, error) => tries < 2 && !(error instanceof ProblemError && error.status > 0 && error.status < 500),
    },
  },
});

onSignedOut(() => void client.invalidateQueries({ queryKey: SESSION }));

/** An upgraded gateway no longer has the files that a page from before it loads later. */
async function reloadAfterUpgrade(): Promise<void> {
  const own = document.querySelector("script[type=module]")?.getAttribute("src") ?? "";
  const page = await fetch("/", { headers: { Accept: "text/html" } }).catch(() => null);
  if (page?.ok && !(await page.text()).includes(own)) window.location.reload();
}

window.addEventListener("vite:preloadError", () => void reloadAfterUpgrade());

createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <QueryClientProvider client={client}>
      {/* A filter is a part of the address: its control shows the new value at once, not when there is time. */}
      <BrowserRouter useTransitions={false}>
        <App />
      </BrowserRouter>
    </QueryClientProvider>
  </StrictMode>,
);
