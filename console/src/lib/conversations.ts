import { useSyncExternalStore } from "react";
import type { Done, Source } from "../api/client";

export interface Exchange {
  id: string;
  question: string;
  answer: string;
  sources: Source[];
  done: Done | null;
  problem: { title: string; detail: string } | null;
  stopped: boolean;
  filter?: string;
  askedAt: number;
}

export interface Conversation {
  id: string;
  title: string;
  collection: string;
  pipeline: string;
  changedAt: number;
  exchanges: Exchange[];
}

const MOST = 60;
const listeners = new Set<() => void>();
let place = "";
let conversations: Conversation[] = [];

/** Conversations are kept in this browser only, apart for each key. */
export function openConversations(owner: string): void {
  const wanted = `sluice.conversations.${owner}`;
  if (wanted === place) return;
  place = wanted;
  try {
    const stored: unknown = JSON.parse(localStorage.getItem(place) ?? "[]");
    conversations = Array.isArray(stored) ? (stored as Conversation[]) : [];
  } catch {
    conversations = [];
  }
}

export function useConversations(): Conversation[] {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => conversations,
  );
}

export function saveConversation(changed: Conversation): void {
  write([changed, ...conversations.filter((one) => one.id !== changed.id)].slice(0, MOST));
}

export const deleteConversation = (id: string): void => write(conversations.filter((one) => one.id !== id));

export const deleteConversations = (): void => write([]);

function write(changed: Conversation[]): void {
  conversations = changed;
  let kept = changed;
  for (;;) {
    try {
      localStorage.setItem(place, JSON.stringify(kept));
      break;
    } catch {
      // The browser's store is full: the oldest conversation makes room.
      if (kept.length < 2) break;
      kept = kept.slice(0, -1);
    }
  }
  listeners.forEach((listener) => listener());
}

export function asMarkdown(conversation: Conversation): string {
  return conversation.exchanges.map(exchangeMarkdown).join("\n\n---\n\n");
}

export function exchangeMarkdown(exchange: Exchange): string {
  const cited = new Set(exchange.done?.cited ?? []);
  const sources = exchange.sources
    .filter((source) => cited.has(source.index))
    .map((source) => `- [${source.index}] ${source.document}, passage ${source.position + 1}`);
  const parts = [`**${exchange.question}**`, exchange.answer];
  if (sources.length > 0) parts.push(`Sources\n\n${sources.join("\n")}`);
  return parts.join("\n\n");
}
