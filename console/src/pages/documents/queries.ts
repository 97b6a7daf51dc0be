import { keepPreviousData, useQuery, useQueryClient } from "@tanstack/react-query";
import { useCallback } from "react";
import { api, problemOf, ProblemError, read, type Job } from "../../api/client";

export const PAGE = 50;
const CALM_MS = 20_000;
const BUSY_MS = 2_500;

export const paths = {
  collection: (collection: string) => `/documents/${encodeURIComponent(collection)}`,
  document: (collection: string, document: string) => `/documents/${encodeURIComponent(collection)}/${document}`,
  job: (job: string) => `/jobs/${encodeURIComponent(job)}`,
};

export function useCollectionPage(after: string) {
  return useQuery({
    queryKey: ["collections", "page", after],
    queryFn: () => read(api.GET("/v1/collections", { params: { query: { after, limit: PAGE } } })),
    placeholderData: keepPreviousData,
    refetchInterval: CALM_MS,
  });
}

const isChanging = (state: string) => state === "building" || state === "following" || state === "leaving";

export function useCollection(name: string, busy = false) {
  return useQuery({
    queryKey: ["collection", name],
    queryFn: () => read(api.GET("/v1/collections/{collection}", { params: { path: { collection: name } } })),
    refetchInterval: ({ state }) =>
      busy || state.data?.versions.some((version) => isChanging(version.state)) ? BUSY_MS : CALM_MS,
  });
}

export interface DocumentFilter {
  text: string;
  warned: boolean;
  after: string;
}

export function useDocumentPage(collection: string, filter: DocumentFilter, busy: boolean) {
  return useQuery({
    queryKey: ["documents", collection, filter],
    queryFn: () =>
      read(
        api.GET("/v1/collections/{collection}/documents", {
          params: { path: { collection }, query: { ...filter, limit: PAGE } },
        }),
      ),
    placeholderData: (before, query) => (query?.queryKey[1] === collection ? before : undefined),
    refetchInterval: busy ? BUSY_MS : CALM_MS,
  });
}

export function useDocument(collection: string, document: string) {
  return useQuery({
    queryKey: ["document", collection, document],
    queryFn: () =>
      read(api.GET("/v1/collections/{collection}/documents/{document}", { params: { path: { collection, document } } })),
    refetchInterval: CALM_MS,
  });
}

/** Lists of a collection are read anew, and its documents when they are opened the next time. */
export function useRefresh(collection: string): () => Promise<void> {
  const client = useQueryClient();
  return useCallback(async () => {
    // A document on the page may be the one that was deleted.
    void client.invalidateQueries({ queryKey: ["document", collection], refetchType: "none" });
    await Promise.all([
      ...["collection", "documents", "ingest-jobs"].map((kind) => client.invalidateQueries({ queryKey: [kind, collection] })),
      client.invalidateQueries({ queryKey: ["collections"] }),
    ]);
  }, [client, collection]);
}

const LOOK_MS = 400;
const PATIENCE_MS = 60_000;

/** Waits until a job has ended. Throws a ProblemError where it fails, or takes so long that nobody should wait. */
export async function jobEnd(job: Job): Promise<Job> {
  const until = Date.now() + PATIENCE_MS;
  let now = job;
  while (now.state === "queued" || now.state === "running") {
    if (Date.now() > until) {
      throw new ProblemError({ title: "It takes longer than usual", detail: `The job ${job.id} goes on. Look at it on the page Jobs.` });
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    try {
      now = await read(api.GET("/v1/jobs/{job}", { params: { path: { job: job.id } } }));
    } catch (error) {
      const { status } = problemOf(error);
      // A caller who may not see all documents may not see the job either.
      if (status === 403 || status === 404) return now;
      if (status > 0 && status < 500) throw error;
    }
  }
  if (now.state === "succeeded") return now;
  if (now.error) throw new ProblemError(now.error);
  throw new ProblemError({ title: `The job was ${now.state}`, detail: "" });
}
