"""Requests to loaded models: tensors as arrays, checks, and batches."""
