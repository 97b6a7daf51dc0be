"""Reads documents in separate processes."""
