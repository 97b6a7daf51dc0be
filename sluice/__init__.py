"""Sluice for the people who use it: the client and its models.

    import sluice

    with sluice.Client() as client:
        print(client.query("How long is the warranty?").answer)

Names load on first use, so that the command line starts fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sluice.api.collections import Collection
    from sluice.api.documents import Document
    from sluice.api.jobs import Job, JobState
    from sluice.api.queries import Answer, Delta, Done, Source, Sources, Timings
    from sluice.api.status import Status
    from sluice.client import AsyncClient, Client
    from sluice.client.errors import SluiceError, UnreachableError
    from sluice.client.pipeline import Pipeline

__all__ = [
    "AsyncClient",
    "Client",
    "SluiceError",
    "UnreachableError",
    "Answer",
    "Collection",
    "Delta",
    "Document",
    "Done",
    "Job",
    "JobState",
    "Pipeline",
    "Source",
    "Sources",
    "Status",
    "Timings",
]

_HOME = {
    "AsyncClient": "client",
    "Client": "client",
    "SluiceError": "client.errors",
    "UnreachableError": "client.errors",
    "Pipeline": "client.pipeline",
    "Collection": "api.collections",
    "Document": "api.documents",
    "Job": "api.jobs",
    "JobState": "api.jobs",
    "Status": "api.status",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'sluice' has no attribute {name!r}")
    return getattr(import_module(f"sluice.{_HOME.get(name, 'api.queries')}"), name)
