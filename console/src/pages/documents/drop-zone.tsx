import { useRef, useState, type DragEvent, type ReactNode } from "react";
import { Button } from "../../ui/basics";
import { Icon } from "../../ui/icon";
import { collectDropped, collectFiles, type Collected } from "./collect";

interface Props {
  onFiles: (some: Collected) => void;
  /** Whether a folder comes as a whole instead of in parts. */
  whole?: boolean;
  compact?: boolean;
  children?: ReactNode;
}

/** Takes files and folders, by dropping them or by its buttons. */
export function DropZone({ onFiles, whole = false, compact = false, children }: Props) {
  const files = useRef<HTMLInputElement>(null);
  const folder = useRef<HTMLInputElement>(null);
  const depth = useRef(0);
  const [over, setOver] = useState(false);
  const [looking, setLooking] = useState(false);

  const enter = (event: DragEvent, by: number) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    depth.current += by;
    setOver(depth.current > 0);
  };
  const drop = (event: DragEvent) => {
    event.preventDefault();
    depth.current = 0;
    setOver(false);
    setLooking(true);
    const all: Collected = { chosen: [], hidden: 0 };
    const keep = (some: Collected) => {
      all.chosen.push(...some.chosen);
      all.hidden += some.hidden;
    };
    void collectDropped(event.dataTransfer, whole ? keep : onFiles).finally(() => {
      setLooking(false);
      if (whole && all.chosen.length > 0) onFiles(all);
    });
  };
  const choose = (field: HTMLInputElement) => {
    if (field.files && field.files.length > 0) onFiles(collectFiles(field.files));
    field.value = "";
  };

  return (
    <div
      className={`drop ${over ? "over" : ""} ${compact ? "compact-drop" : ""}`}
      onDragEnter={(event) => enter(event, 1)}
      onDragOver={(event) => enter(event, 0)}
      onDragLeave={(event) => enter(event, -1)}
      onDrop={drop}
    >
      <Icon name="upload" size={24} />
      <p>{looking ? "Looking through the folder …" : over ? "Drop to upload" : "Drop files or folders here"}</p>
      <div className="actions">
        <Button icon="plus" onClick={() => files.current?.click()}>
          Choose files
        </Button>
        <Button icon="folder" onClick={() => folder.current?.click()}>
          Choose a folder
        </Button>
        {children}
      </div>
      <input ref={files} type="file" multiple hidden aria-label="Files" onChange={(event) => choose(event.target)} />
      <input
        ref={folder}
        type="file"
        multiple
        hidden
        aria-label="Folder"
        {...{ webkitdirectory: "" }}
        onChange={(event) => choose(event.target)}
      />
    </div>
  );
}
