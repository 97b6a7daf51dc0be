"""Batches: JSONL files of requests, answered line by line."""
