export type Theme = "system" | "light" | "dark";

const PLACE = "sluice.theme";

export function theme(): Theme {
  const stored = localStorage.getItem(PLACE);
  return stored === "light" || stored === "dark" ? stored : "system";
}

export function applyTheme(chosen: Theme = theme()): void {
  if (chosen === "system") {
    localStorage.removeItem(PLACE);
    delete document.documentElement.dataset["theme"];
  } else {
    localStorage.setItem(PLACE, chosen);
    document.documentElement.dataset["theme"] = chosen;
  }
}

/** Whether dark colours are shown now. */
export function isDark(): boolean {
  const chosen = theme();
  return chosen === "system" ? window.matchMedia("(prefers-color-scheme: dark)").matches : chosen === "dark";
}
