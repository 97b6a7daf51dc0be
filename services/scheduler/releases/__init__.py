"""Releases: which one answers a collection."""
