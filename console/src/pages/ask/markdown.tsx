import type { Nodes, Parent, PhrasingContent, Root, Text } from "mdast";
import { memo, useEffect, useMemo, useRef, type RefObject } from "react";
import ReactMarkdown, { type Components } from "react-markdown";
import remarkGfm from "remark-gfm";
import type { Done } from "../../api/client";
import { printable } from "../../lib/format";

interface Range {
  start: number;
  end: number;
}

interface Props {
  text: string;
  supported: Done["supported"];
  onCite: (index: number) => void;
  known: number;
}

const CITATION = /\[(\d{1,3})\]/g;
const CITED = "#source-";
/** What a document links to within its own folder or site is not there, and the console's own pages are not its to name. */
const ELSEWHERE = /^(https?:\/\/|mailto:)/i;

/** An answer as Markdown. Raw HTML stays text, images become their description, and links leave by a new tab. */
export const AnswerText = memo(function AnswerText({ text, supported, onCite, known }: Props) {
  const ranges = unsupportedRanges(text, supported);
  const cite = useRef(onCite);
  useEffect(() => void (cite.current = onCite), [onCite]);
  const components = useMemo(() => componentsFor(known, cite), [known]);
  return (
    <div className="answer" dir="auto">
      <ReactMarkdown remarkPlugins={[remarkGfm, [marks, ranges]]} components={components}>
        {printable(text)}
      </ReactMarkdown>
    </div>
  );
});

/** Made once: with other components React would make a citation anew that has the focus. */
function componentsFor(known: number, cite: RefObject<(index: number) => void>): Components {
  return {
    a({ href, children }) {
      const index = href?.startsWith(CITED) ? Number(href.slice(CITED.length)) : 0;
      if (index > 0 && index <= known) {
        return (
          <button type="button" className="citation" aria-label={`Source ${index}`} onClick={() => cite.current(index)}>
            {index}
          </button>
        );
      }
      if (!href || !ELSEWHERE.test(href)) return <>{children}</>;
      return (
        <a href={href} target="_blank" rel="noopener noreferrer nofollow">
          {children}
        </a>
      );
    },
    img: ({ alt }) => <span className="faint">[{alt || "image"}]</span>,
    table: ({ children }) => (
      <div className="scroller">
        <table>{children}</table>
      </div>
    ),
  };
}

/** Python counts code points, JavaScript UTF-16 units. */
function unsupportedRanges(text: string, supported: Done["supported"]): Range[] {
  const wanted = supported.filter((sentence) => !sentence.supported && sentence.end > sentence.start);
  if (wanted.length === 0) return [];
  const offsets: number[] = [];
  let at = 0;
  for (const character of text) {
    offsets.push(at);
    at += character.length;
  }
  offsets.push(at);
  return wanted.map(({ start, end }) => ({ start: offsets[start] ?? at, end: offsets[end] ?? at }));
}

/** A remark plugin: `[1]` becomes a link to its source, and sentences without support are marked. */
function marks(ranges: Range[]) {
  return (tree: Root) => visit(tree, ranges);
}

function visit(parent: Parent, ranges: Range[]): void {
  parent.children = parent.children.flatMap((child): Nodes[] => {
    if (child.type === "text") return split(child, ranges);
    if ("children" in child && child.type !== "link") visit(child, ranges);
    return [child];
  }) as Parent["children"];
}

function split(node: Text, ranges: Range[]): PhrasingContent[] {
  const start = node.position?.start.offset;
  const end = node.position?.end.offset;
  // Where the text has escapes, places in it are not those of its source.
  const exact = start !== undefined && end !== undefined && end - start === node.value.length;
  const made: PhrasingContent[] = [];
  const bounds = new Set([0, node.value.length]);
  const inside = exact ? ranges.filter((range) => range.start < end && range.end > start) : [];
  for (const range of inside) {
    bounds.add(Math.max(0, range.start - start!));
    bounds.add(Math.min(node.value.length, range.end - start!));
  }
  const cuts = [...bounds].sort((a, b) => a - b);
  for (let i = 0; i + 1 < cuts.length; i++) {
    const from = cuts[i]!;
    const pieces = cite(node.value.slice(from, cuts[i + 1]));
    const marked = inside.some((range) => range.start <= start! + from && start! + from < range.end);
    if (marked) {
      made.push({
        type: "emphasis",
        children: pieces,
        data: { hName: "mark", hProperties: { className: ["unsupported"], title: "No source supports this sentence" } },
      });
    } else made.push(...pieces);
  }
  return made;
}

function cite(text: string): PhrasingContent[] {
  const made: PhrasingContent[] = [];
  let at = 0;
  for (const match of text.matchAll(CITATION)) {
    if (match.index > at) made.push({ type: "text", value: text.slice(at, match.index) });
    made.push({ type: "link", url: `${CITED}${match[1]}`, children: [{ type: "text", value: match[0] }] });
    at = match.index + match[0].length;
  }
  if (at < text.length) made.push({ type: "text", value: text.slice(at) });
  return made;
}
