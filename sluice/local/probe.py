"""Whether a service says that it is ready."""

import httpx

__all__ = ["HttpProbe"]

TIMEOUT = 2.0


class HttpProbe:
    """Asks `GET /readyz` on a connection of its own each time: one that a dead process left is never waited for."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self._client = client
        self._url = f"{url}/readyz"

    @staticmethod
    def client() -> httpx.AsyncClient:
        limits = httpx.Limits(max_keepalive_connections=0)
        return httpx.AsyncClient(timeout=TIMEOUT, limits=limits, trust_env=False)

    async def __call__(self) -> str | None:
        """None when ready, else the service's own reason, or that there was no answer."""
        try:
            response = await self._client.get(self._url)
        except httpx.HTTPError as error:
            return "no answer in time" if isinstance(error, httpx.TimeoutException) else "no answer"
        return None if response.is_success else _reason(response)


def _reason(response: httpx.Response) -> str:
    try:
        problem = response.json()
        return str(problem.get("detail") or problem.get("title") or response.status_code)
    except (ValueError, AttributeError):
        return f"HTTP {response.status_code}"
