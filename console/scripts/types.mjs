// Writes src/api/schema.d.ts from openapi.json, which `python -m tests.harness.console` takes from the gateway.
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import openapiTS, { astToString } from "openapi-typescript";

const document = readFileSync("openapi.json", "utf8");
const digest = createHash("sha256").update(document).digest("hex");
const types = astToString(await openapiTS(JSON.parse(document), { defaultNonNullable: false }));
writeFileSync("src/api/schema.d.ts", `// Made by scripts/types.mjs of openapi.json, sha256 ${digest}\n${types}`);
