"""Backups: what is in one, where it is kept, and the broker's part of it."""
