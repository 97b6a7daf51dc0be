"""Tests of this tier share a platform, which ends with the last of them on a worker."""
