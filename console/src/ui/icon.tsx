const PATHS = {
  ask: "M4 5h16v11H10l-4 4v-4H4z",
  documents: "M6 3h8l4 4v14H6zM14 3v4h4M9 12h6M9 16h6",
  jobs: "M4 6h16M4 12h16M4 18h10M17 16l2 2 3-4",
  operate: "M3 12h4l3-8 4 16 3-8h4",
  keys: "M14 10a4 4 0 1 0-3.5 4L13 16h2v2h2v2h3v-3l-6.2-6.2zM9 9h.01",
  plus: "M12 5v14M5 12h14",
  close: "M6 6l12 12M18 6L6 18",
  send: "M5 12l14-7-5 14-3-6z",
  stop: "M7 7h10v10H7z",
  retry: "M4 12a8 8 0 1 0 2.6-5.9M4 4v4h4",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  check: "M5 12l5 5L20 7",
  trash: "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13M10 11v5M14 11v5",
  upload: "M12 16V4M7 9l5-5 5 5M4 16v4h16v-4",
  folder: "M3 6h6l2 2h10v11H3z",
  search: "M11 4a7 7 0 1 0 0 14a7 7 0 0 0 0-14zM16 16l4 4",
  chevron: "M9 6l6 6-6 6",
  down: "M6 9l6 6 6-6",
  sun: "M12 8a4 4 0 1 0 0 8a4 4 0 0 0 0-8zM12 2v2M12 20v2M4 12H2M22 12h-2M5 5l1.5 1.5M17.5 17.5L19 19M5 19l1.5-1.5M17.5 6.5L19 5",
  moon: "M20 14A8 8 0 0 1 10 4a8 8 0 1 0 10 10z",
  system: "M3 5h18v11H3zM9 20h6M12 16v4",
  out: "M10 4H4v16h6M15 8l4 4-4 4M19 12H9",
  warning: "M12 4l9 16H3zM12 10v4M12 17h.01",
  more: "M5 12h.01M12 12h.01M19 12h.01",
  pause: "M8 5v14M16 5v14",
  play: "M7 5l11 7-11 7z",
  history: "M12 7v5l3 2M4 12a8 8 0 1 0 2.6-5.9M4 4v4h4",
  good: "M4 11h3v9H4zM7 11l4-7a2 2 0 0 1 3 2l-1 4h5a2 2 0 0 1 2 2.4l-1.4 6a2 2 0 0 1-2 1.6H7",
  poor: "M4 13h3V4H4zM7 13l4 7a2 2 0 0 0 3-2l-1-4h5a2 2 0 0 0 2-2.4l-1.4-6A2 2 0 0 0 16.6 4H7",
  pencil: "M4 20l1-5L16 4l4 4L9 19zM14 6l4 4",
  options: "M4 7h9M17 7h3M15 5v4M4 17h3M11 17h9M9 15v4",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, size = 18 }: { name: IconName; size?: number }) {
  return (
    <svg className="icon" width={size} height={size} viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}

export function Logo() {
  return (
    <svg className="logo" width="26" height="26" viewBox="0 0 32 32" aria-hidden="true" focusable="false">
      <rect width="32" height="32" rx="8" />
      <path d="M7 12c3-3 6-3 9 0s6 3 9 0M7 20c3-3 6-3 9 0s6 3 9 0" />
    </svg>
  );
}
