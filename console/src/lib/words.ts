/** A stretch of a text, and whether the other text lacks it there. */
export interface Stretch {
  text: string;
  differs: boolean;
}

/** The most pairs of words that are compared: a longer middle differs as a whole. */
const MOST_PAIRS = 4_000_000;

const segmenter = new Intl.Segmenter(undefined, { granularity: "word" });

/** The words and signs of a text, each with the space after it. */
function words(text: string): string[] {
  const found: string[] = [];
  for (const { segment } of segmenter.segment(text)) {
    if (found.length > 0 && segment.trim() === "") found[found.length - 1] += segment;
    else found.push(segment);
  }
  return found;
}

/** Two texts with the words in which they differ. */
export function differences(one: string, other: string): { one: Stretch[]; other: Stretch[] } {
  const [a, b] = [words(one), words(other)];
  const [keysA, keysB] = [a.map((word) => word.trim()), b.map((word) => word.trim())];
  let start = 0;
  while (start < a.length && start < b.length && keysA[start] === keysB[start]) start++;
  let [endA, endB] = [a.length, b.length];
  while (endA > start && endB > start && keysA[endA - 1] === keysB[endB - 1]) endA--, endB--;
  const common = longestCommon(keysA.slice(start, endA), keysB.slice(start, endB));
  const inA = new Set(common.map(([i]) => start + i));
  const inB = new Set(common.map(([, j]) => start + j));
  return {
    one: stretches(a, (i) => i >= start && i < endA && !inA.has(i)),
    other: stretches(b, (i) => i >= start && i < endB && !inB.has(i)),
  };
}

/** The places of a longest common subsequence in both. */
function longestCommon(a: string[], b: string[]): [number, number][] {
  const width = b.length + 1;
  if (a.length * b.length > MOST_PAIRS) return [];
  const lengths = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      const at = i * width + j;
      lengths[at] = a[i] === b[j] ? lengths[at + width + 1]! + 1 : Math.max(lengths[at + width]!, lengths[at + 1]!);
    }
  }
  const pairs: [number, number][] = [];
  for (let i = 0, j = 0; i < a.length && j < b.length; ) {
    const at = i * width + j;
    if (a[i] === b[j]) pairs.push([i++, j++]);
    else if (lengths[at + width]! >= lengths[at + 1]!) i++;
    else j++;
  }
  return pairs;
}

function stretches(words: string[], differs: (place: number) => boolean): Stretch[] {
  const found: Stretch[] = [];
  words.forEach((word, place) => {
    const last = found.at(-1);
    if (last && last.differs === differs(place)) last.text += word;
    else found.push({ text: word, differs: differs(place) });
  });
  return found;
}
