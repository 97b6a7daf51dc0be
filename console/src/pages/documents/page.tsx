import { useEffect } from "react";
import { useParams } from "react-router";
import { CollectionView } from "./collection";
import { CollectionsView } from "./collections";
import { DocumentView } from "./document";
import "./documents.css";

export default function DocumentsPage() {
  const { collection, document } = useParams();
  useStrayDrops();
  if (collection === undefined) return <CollectionsView />;
  if (document === undefined) return <CollectionView key={collection} name={collection} />;
  return <DocumentView key={`${collection}/${document}`} collection={collection} id={document} />;
}

/** A file that is dropped beside the field would take the place of the console in the browser. */
function useStrayDrops(): void {
  useEffect(() => {
    const ignore = (event: DragEvent) => {
      if (event.dataTransfer?.types.includes("Files")) event.preventDefault();
    };
    window.addEventListener("dragover", ignore);
    window.addEventListener("drop", ignore);
    return () => {
      window.removeEventListener("dragover", ignore);
      window.removeEventListener("drop", ignore);
    };
  }, []);
}
