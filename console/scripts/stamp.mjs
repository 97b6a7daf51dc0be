// Writes into the build which sources it is made of. `tests/unit/gateway/console/test_build.py` computes the same.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const OUTPUT = "../services/gateway/console/static";
const SINGLE = ["index.html", "openapi.json", "package-lock.json", "package.json", "tsconfig.json", "vite.config.ts"];
const FOLDERS = ["public", "scripts", "src"];

function* filesIn(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) yield* filesIn(path);
    else yield path.replaceAll("\\", "/");
  }
}

function digest(paths, folder) {
  const lines = paths.map((path) => {
    const hash = createHash("sha256").update(readFileSync(join(folder, path))).digest("hex");
    return `${hash}  ${path}\n`;
  });
  return createHash("sha256").update(lines.join("")).digest("hex");
}

const sources = [...SINGLE, ...FOLDERS.flatMap((folder) => [...filesIn(folder)])].sort();
const built = [...filesIn(OUTPUT)]
  .map((path) => path.slice(OUTPUT.length + 1))
  .filter((path) => path !== "build.json")
  .sort();
const stamp = { sources: digest(sources, "."), files: digest(built, OUTPUT) };
writeFileSync(join(OUTPUT, "build.json"), `${JSON.stringify(stamp, null, 2)}\n`);
