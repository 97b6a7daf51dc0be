"""Sections of documents into chunks, by the embedding model's tokens."""
