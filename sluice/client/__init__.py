"""The client of a running Sluice, blocking (`Client`) and for asyncio (`AsyncClient`)."""

from sluice.client.asynchronous import AsyncClient
from sluice.client.call import Upload
from sluice.client.synchronous import Client

__all__ = ["AsyncClient", "Client", "Upload"]
