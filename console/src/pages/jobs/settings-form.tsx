import { Field } from "../../ui/basics";

/** What may be said about any job besides its spec; texts as they are written. */
export interface Settings {
  priority: "high" | "normal" | "low";
  timeout: string;
  tries: string;
  labels: string;
}

export const NO_SETTINGS: Settings = { priority: "normal", timeout: "", tries: "", labels: "" };

/** The members of a request. Throws a SyntaxError, in words. */
export function membersOf(settings: Settings): Record<string, unknown> {
  const labels: Record<string, string> = {};
  for (const part of settings.labels.split(",").map((text) => text.trim()).filter(Boolean)) {
    const [key = "", value] = part.split("=", 2);
    if (!key || value === undefined) throw new SyntaxError(`Write labels as key=value, not ${part}.`);
    labels[key.trim()] = value.trim();
  }
  return {
    ...(settings.priority === "normal" ? {} : { priority: settings.priority }),
    ...(settings.timeout ? { timeout: Number(settings.timeout) } : {}),
    ...(settings.tries ? { retry: { limit: Number(settings.tries) } } : {}),
    ...(Object.keys(labels).length > 0 ? { labels } : {}),
  };
}

export function SettingsForm({ settings, onSettings }: { settings: Settings; onSettings: (settings: Settings) => void }) {
  const set = (part: Partial<Settings>) => onSettings({ ...settings, ...part });
  return (
    <details className="more">
      <summary>More settings</summary>
      <div className="form-row">
        <Field label="Priority">
          <select value={settings.priority} onChange={(event) => set({ priority: event.target.value as Settings["priority"] })}>
            <option value="high">High</option>
            <option value="normal">Normal</option>
            <option value="low">Low</option>
          </select>
        </Field>
        <Field label="Time limit in seconds">
          <input type="number" min={1} value={settings.timeout} placeholder="None" onChange={(event) => set({ timeout: event.target.value })} />
        </Field>
        <Field label="Tries">
          <input type="number" min={1} max={100} value={settings.tries} placeholder="5" onChange={(event) => set({ tries: event.target.value })} />
        </Field>
      </div>
      <Field label="Labels" hint="key=value, separated by commas">
        <input dir="auto" value={settings.labels} onChange={(event) => set({ labels: event.target.value })} />
      </Field>
    </details>
  );
}
