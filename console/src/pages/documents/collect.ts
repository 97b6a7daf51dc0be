import { spelled } from "./names";

/** A file that was chosen, by the name that its document gets; without the file where it cannot be sent. */
export interface Chosen {
  name: string;
  file: File | null;
  fault: string;
}

export interface Collected {
  chosen: Chosen[];
  /** Hidden files and folders, which `sluice ingest` leaves out too. */
  hidden: number;
}

const PERMISSION_FILE = ".sluice-permissions.yaml";
const SKIPPED_FOLDERS = new Set(["__pycache__", "node_modules"]);
const AT_ONCE = 200;

const UNREADABLE = "The browser cannot read this file.";
const RESTRICTED = `Its folder has a file ${PERMISSION_FILE}, which the console does not read. Use sluice ingest, which does.`;

const isHidden = (part: string) => part.startsWith(".") || SKIPPED_FOLDERS.has(part);

/** The files of a file or folder field. */
export function collectFiles(files: Iterable<File>): Collected {
  const chosen: Chosen[] = [];
  let hidden = 0;
  const all = [...files];
  const restricted = all
    .map((file) => file.webkitRelativePath)
    .filter((path) => path.endsWith(`/${PERMISSION_FILE}`))
    .map((path) => path.slice(0, -PERMISSION_FILE.length));
  for (const file of all) {
    const path = file.webkitRelativePath || file.name;
    if (path.split("/").slice(1).some(isHidden)) {
      hidden += 1;
    } else if (restricted.some((folder) => path.startsWith(folder))) {
      chosen.push({ name: spelled(path), file: null, fault: RESTRICTED });
    } else {
      chosen.push({ name: spelled(path), file, fault: "" });
    }
  }
  return { chosen, hidden };
}

/** What was dropped, folders with all that is in them, some files at a time. */
export function collectDropped(data: DataTransfer, take: (some: Collected) => void): Promise<void> {
  // The items are there only until this event's handler returns.
  const entries = [...data.items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  const loose = entries.length === 0 ? [...data.files] : [];
  if (loose.length > 0) take(collectFiles(loose));
  return walk(entries, take);
}

async function walk(roots: FileSystemEntry[], take: (some: Collected) => void): Promise<void> {
  let found: Collected = { chosen: [], hidden: 0 };
  const flush = () => {
    if (found.chosen.length > 0 || found.hidden > 0) take(found);
    found = { chosen: [], hidden: 0 };
  };
  const add = async (entry: FileSystemEntry, path: string, restricted: boolean): Promise<void> => {
    if (entry.isDirectory) {
      await descend(entry as FileSystemDirectoryEntry, path, restricted);
      return;
    }
    const name = spelled(path);
    if (restricted) {
      found.chosen.push({ name, file: null, fault: RESTRICTED });
    } else {
      try {
        found.chosen.push({ name, file: await fileOf(entry as FileSystemFileEntry), fault: "" });
      } catch {
        found.chosen.push({ name, file: null, fault: UNREADABLE });
      }
    }
    if (found.chosen.length >= AT_ONCE) flush();
  };
  const descend = async (folder: FileSystemDirectoryEntry, path: string, restricted: boolean): Promise<void> => {
    let children: FileSystemEntry[];
    try {
      children = await childrenOf(folder);
    } catch {
      found.chosen.push({ name: spelled(path), file: null, fault: "The browser cannot read this folder." });
      return;
    }
    const closed = restricted || children.some((child) => child.name === PERMISSION_FILE);
    for (const child of children) {
      if (isHidden(child.name)) found.hidden += 1;
      else await add(child, `${path}/${child.name}`, closed);
    }
  };
  for (const root of roots) await add(root, root.name, false);
  flush();
}

const fileOf = (entry: FileSystemFileEntry) => new Promise<File>((resolve, reject) => entry.file(resolve, reject));

/** All of them: a browser gives some at a time, and none at the end. */
async function childrenOf(folder: FileSystemDirectoryEntry): Promise<FileSystemEntry[]> {
  const reader = folder.createReader();
  const all: FileSystemEntry[] = [];
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return all.sort((one, other) => (one.name < other.name ? -1 : 1));
    all.push(...some);
  }
}
