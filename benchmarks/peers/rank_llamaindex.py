"""LlamaIndex's default retriever over given vectors: `python -m benchmarks.peers.rank_llamaindex FOLDER`.

Two steps, each asked for by a line on standard input. {"cut": {name: text}} is answered with the nodes that its
default splitter makes, as [name, text] pairs; {"vectors": file, "questions": file, "top_k": n} with the names of the
documents that its default retriever finds for each question. The vectors are computed outside, so that all contenders
have the same.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from llama_index.core import Document, QueryBundle, VectorStoreIndex
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import MetadataMode, TextNode


def main() -> None:
    print(json.dumps({"ready": True}), flush=True)
    nodes: list[Any] = []
    for line in sys.stdin:
        asked = json.loads(line)
        if "cut" in asked:
            texts = json.loads(Path(asked["cut"]).read_text())
            documents = [Document(text=text, metadata={"file_name": name}) for name, text in texts.items()]
            nodes = SentenceSplitter().get_nodes_from_documents(documents)
            shown = [[node.metadata["file_name"], node.get_content(MetadataMode.EMBED)] for node in nodes]
            print(json.dumps(shown), flush=True)
        else:
            print(json.dumps(_search(nodes, asked)), flush=True)


def _search(nodes: list[TextNode], asked: dict[str, Any]) -> list[list[str]]:
    for node, vector in zip(nodes, np.load(asked["vectors"]), strict=True):
        node.embedding = vector.tolist()
    index = VectorStoreIndex(nodes, embed_model=MockEmbedding(embed_dim=len(nodes[0].embedding or [])))
    retriever = index.as_retriever(similarity_top_k=asked["top_k"])
    found = []
    for text, vector in zip(asked["texts"], np.load(asked["questions"]), strict=True):
        hits = retriever.retrieve(QueryBundle(text, embedding=vector.tolist()))
        found.append([hit.node.metadata["file_name"] for hit in hits])
    return found


if __name__ == "__main__":
    main()
