"""Sources of documents that nobody uploads: what they list, and the bytes of each document."""

from services.scheduler.ingestion.sources.base import Listed, Source
from services.scheduler.ingestion.sources.folder import Folder
from services.scheduler.ingestion.sources.s3 import Bucket
from services.scheduler.settings import SchedulerSettings
from shared.contracts.jobs import FolderSource, S3Source

__all__ = ["Listed", "Source", "open_source"]


def open_source(spec: FolderSource | S3Source, settings: SchedulerSettings) -> Source:
    """Raises Problem SOURCE_REFUSED for what the settings do not allow, NOT_FOUND for a folder that is not there."""
    roots = [root.strip() for root in settings.source_roots.split(",") if root.strip()]
    if isinstance(spec, FolderSource):
        return Folder.open(spec, roots)
    endpoints = [url.strip() for url in settings.source_endpoints.split(",") if url.strip()]
    return Bucket.open(spec, roots, endpoints)
