import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { api, read, type Job } from "../../api/client";
import { bytes, printable } from "../../lib/format";
import { Button, Loading, Problem } from "../../ui/basics";
import { artifactPath, hasEnded, readArtifact } from "./data";

const LOG = "log.txt";
const MOST_SHOWN = 2_000_000;
/** Bytes of a file that the page reads to show it. */
const LAST_LINES = 400;
const TEXTS = /\.(txt|log|json|jsonl|md|csv|yaml|yml)$/;

/** The files of a job, and the log of a command. */
export function Files({ job }: { job: Job }) {
  const names = job.artifacts ?? [];
  const found = useQuery({
    queryKey: ["job", job.id, "artifacts", names.length, hasEnded(job)],
    queryFn: ({ signal }) => read(api.GET("/v1/jobs/{job}/artifacts", { params: { path: { job: job.id } }, signal })),
    enabled: names.length > 0,
    placeholderData: (before) => before,
  });
  const [open, setOpen] = useState<string | null>(null);
  if (names.length === 0) return null;
  const files = found.data?.artifacts ?? [];
  const log = files.find((file) => file.file === LOG);
  return (
    <>
      {log && log.bytes <= MOST_SHOWN && (
        <section className="panel padded" aria-label="Log">
          <h2>Log</h2>
          <FileText job={job} file={LOG} size={log.bytes} />
        </section>
      )}
      <section className="panel padded" aria-label="Files">
        <h2>Files</h2>
        {found.isPending ? (
          <Loading label="Reading the files" />
        ) : found.error && !found.data ? (
          <Problem error={found.error} retry={() => void found.refetch()} />
        ) : files.length === 0 ? (
          <p className="faint">They have expired.</p>
        ) : (
          <ul className="files">
            {files.map((file) => (
              <li key={file.file}>
                <div className="file-row">
                  <span className="name mono" dir="auto">
                    {file.file}
                  </span>
                  <span className="faint nowrap">{bytes(file.bytes)}</span>
                  <span className="spacer" />
                  {TEXTS.test(file.file) && file.file !== LOG && file.bytes <= MOST_SHOWN && (
                    <Button
                      kind="quiet"
                      aria-expanded={open === file.file}
                      aria-label={`${open === file.file ? "Hide" : "Show"} ${file.file}`}
                      onClick={() => setOpen(open === file.file ? null : file.file)}
                    >
                      {open === file.file ? "Hide" : "Show"}
                    </Button>
                  )}
                  <a className="button" href={artifactPath(job.id, file.file)} download={file.file} aria-label={`Download ${file.file}`}>
                    Download
                  </a>
                </div>
                {open === file.file && <FileText job={job} file={file.file} size={file.bytes} />}
              </li>
            ))}
          </ul>
        )}
      </section>
    </>
  );
}

function FileText({ job, file, size }: { job: Job; file: string; size: number }) {
  const text = useQuery({
    queryKey: ["job", job.id, "file", file, size],
    queryFn: ({ signal }) => readArtifact(job.id, file, signal),
    staleTime: Infinity,
  });
  if (text.isPending) return <Loading label={`Reading ${file}`} />;
  if (text.data === undefined) return <Problem error={text.error} retry={() => void text.refetch()} />;
  const lines = text.data.split("\n");
  if (lines.at(-1) === "") lines.pop();
  const cut = lines.length > LAST_LINES;
  const shown = cut ? (file === LOG ? lines.slice(-LAST_LINES) : lines.slice(0, LAST_LINES)) : lines;
  return (
    <>
      {cut && (
        <p className="faint">
          The {file === LOG ? "last" : "first"} {LAST_LINES} of {lines.length.toLocaleString("en")} lines.
        </p>
      )}
      <pre className="code log" dir="auto" tabIndex={0} aria-label={file}>
        {printable(shown.join("\n")) || "It is empty."}
      </pre>
    </>
  );
}
