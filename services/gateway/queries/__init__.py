"""Queries: planned, submitted, assembled and formatted; /v1/query."""
