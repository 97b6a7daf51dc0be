/** What may be wrong with an answer, as it is sent and as it is said. */
export const TAGS: Record<string, string> = {
  wrong: "Wrong",
  incomplete: "Incomplete",
  "not-in-sources": "Not in the sources",
  outdated: "Outdated",
  style: "Style",
};

export const tagWords = (tag: string): string => TAGS[tag] ?? tag;
