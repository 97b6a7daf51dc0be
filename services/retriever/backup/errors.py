"""Why a backup cannot be made or restored, in words for its operator."""

__all__ = ["BackupError"]


class BackupError(Exception):
    """A backup cannot be made or used. Its text says why, and what to do."""
