import { useRef } from "react";
import { api, read, type Job } from "../api/client";

/** Submits a job. The same one again, after a response that never came, is the job that was made then. */
export function useSubmitJob(): (body: object) => Promise<Job> {
  const last = useRef({ text: "", key: "" });
  return async (body) => {
    const text = JSON.stringify(body);
    if (text !== last.current.text) last.current = { text, key: newKey() };
    const made = await read(api.POST("/v1/jobs", { params: { header: { "idempotency-key": last.current.key } }, body: body as never }));
    last.current.text = "";
    return made.job;
  };
}

/** What tells one request from all others, for `Idempotency-Key`. */
export const newKey = (): string => [...crypto.getRandomValues(new Uint32Array(4))].map((part) => part.toString(16)).join("-");
