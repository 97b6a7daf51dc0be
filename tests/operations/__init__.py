"""Backups, restarts and crashes: each of these tests has a platform of its own, which it may break."""
