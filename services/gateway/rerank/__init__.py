"""Reranking of texts that the request brings: /v1/rerank, /v2/rerank."""
