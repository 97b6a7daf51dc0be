const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f"\\\u2028\u2029\ufdd0-\ufdef\ufffe\uffff]|⟨(?=[0-9A-F]{2}⟩)/g;
const LONE_SURROGATES = /[\ud800-\udfff]/gu;

/** A path as the document's name that `sluice ingest` gives it: what no name may have is written as its bytes. */
export const spelled = (path: string): string =>
  path
    .replace(LONE_SURROGATES, "\ufffd")
    .replace(UNPRINTABLE, (character) =>
      [...new TextEncoder().encode(character)].map((byte) => `⟨${byte.toString(16).toUpperCase().padStart(2, "0")}⟩`).join(""),
    );
