const NUMBER = new Intl.NumberFormat("en");
const DATE = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short" });

export const count = (value: number): string => NUMBER.format(value);

export const plural = (value: number, one: string, more = `${one}s`): string =>
  `${NUMBER.format(value)} ${value === 1 ? one : more}`;

export function bytes(value: number): string {
  if (value < 1000) return `${value} B`;
  const units = ["kB", "MB", "GB", "TB"];
  let size = value;
  let unit = "";
  for (const next of units) {
    size /= 1000;
    unit = next;
    if (size < 1000) break;
  }
  return `${size < 10 ? size.toFixed(1) : Math.round(size)} ${unit}`;
}

/** Of Unix seconds. */
export const moment = (seconds: number): string => DATE.format(seconds * 1000);

export function ago(seconds: number, now = Date.now() / 1000): string {
  const gap = now - seconds;
  const text = span(Math.abs(gap));
  return Math.abs(gap) < 5 ? "just now" : gap > 0 ? `${text} ago` : `in ${text}`;
}

/** Seconds as people say them. */
export function span(seconds: number): string {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 129_600) return `${Math.round(seconds / 3600)} h`;
  return plural(Math.round(seconds / 86_400), "day");
}

export const milliseconds = (value: number): string =>
  value < 1 ? `${value.toFixed(2)} ms` : value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(2)} s`;

export const percent = (share: number): string => `${Math.round(share * 100)} %`;

/** Text of documents and of their names, with what does not print made visible. */
export const printable = (text: string): string =>
  text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, "\ufffd");
