"""Triton's generate extension: an inference as plain JSON, and as server-sent events."""
