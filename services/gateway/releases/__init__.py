"""Releases: /v1/releases."""
