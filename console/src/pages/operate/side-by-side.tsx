import { Fragment, useMemo, useState, type ReactNode } from "react";
import { printable } from "../../lib/format";
import { differences, type Stretch } from "../../lib/words";
import { Button } from "../../ui/basics";
import "./side-by-side.css";

interface Side {
  title: ReactNode;
  text: string;
  /** Where it comes from, below the text. */
  children?: ReactNode;
}

/** Two texts beside each other, or one below the other on a phone, with the words in which they differ. */
export function SideBySide({ one, other, corrected = false }: { one: Side; other: Side; corrected?: boolean }) {
  const found = useMemo(() => differences(printable(one.text), printable(other.text)), [one.text, other.text]);
  return (
    <div className="side-by-side">
      <TextSide side={one} stretches={found.one} tag={corrected ? "del" : "mark"} />
      <TextSide side={other} stretches={found.other} tag={corrected ? "ins" : "mark"} />
    </div>
  );
}

function TextSide({ side, stretches, tag: Tag }: { side: Side; stretches: Stretch[]; tag: "del" | "ins" | "mark" }) {
  return (
    <div className="text-side">
      <h3>{side.title}</h3>
      <Clipped length={side.text.length}>
        <p className="plain-text" dir="auto">
          {side.text === "" && <span className="faint">No text</span>}
          {stretches.map(({ text, differs }, place) =>
            differs ? (
              <Fragment key={place}>
                <Tag className="differs">{text.trimEnd()}</Tag>
                {text.slice(text.trimEnd().length)}
              </Fragment>
            ) : (
              text
            ),
          )}
        </p>
      </Clipped>
      {side.children}
    </div>
  );
}

/** The most characters of a text that are shown before somebody asks for the rest. */
const MANY = 1_500;

/** Text that may be long: its beginning, until somebody wants all of it. */
export function Clipped({ length, children }: { length: number; children: ReactNode }) {
  const [all, setAll] = useState(length <= MANY);
  if (all) return <>{children}</>;
  return (
    <div>
      <div className="clipped">{children}</div>
      <Button kind="quiet" onClick={() => setAll(true)}>
        Show all
      </Button>
    </div>
  );
}
