"""Haystack's default retriever over given vectors: `python -m benchmarks.peers.rank_haystack`.

The lines on standard input and the answers are those of `rank_llamaindex`. Documents are cut by Haystack's default
splitter, 200 words without overlap, and searched for in its store in memory.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from haystack import Document
from haystack.components.preprocessors import DocumentSplitter
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.document_stores.in_memory import InMemoryDocumentStore


def main() -> None:
    print(json.dumps({"ready": True}), flush=True)
    parts: list[Document] = []
    for line in sys.stdin:
        asked = json.loads(line)
        if "cut" in asked:
            texts = json.loads(Path(asked["cut"]).read_text())
            documents = [Document(content=text, meta={"name": name}) for name, text in texts.items()]
            splitter = DocumentSplitter()
            splitter.warm_up()
            parts = splitter.run(documents=documents)["documents"]
            print(json.dumps([[part.meta["name"], part.content] for part in parts]), flush=True)
        else:
            print(json.dumps(_search(parts, asked)), flush=True)


def _search(parts: list[Document], asked: dict[str, Any]) -> list[list[str]]:
    store = InMemoryDocumentStore()
    for part, vector in zip(parts, np.load(asked["vectors"]), strict=True):
        part.embedding = vector.tolist()
    store.write_documents(parts)
    retriever = InMemoryEmbeddingRetriever(document_store=store, top_k=asked["top_k"])
    return [
        [hit.meta["name"] for hit in retriever.run(query_embedding=vector.tolist())["documents"]]
        for vector in np.load(asked["questions"])
    ]


if __name__ == "__main__":
    main()
