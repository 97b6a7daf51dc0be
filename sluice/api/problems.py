"""What the HTTP API says of failures, as typed, immutable models."""

from sluice.api.base import Schema

__all__ = ["ProblemDetails"]


class ProblemDetails(Schema):
    """RFC 9457 problem details; `status` is 0 where no response came."""

    type: str = "about:blank"
    title: str = ""
    status: int = 0
    detail: str = ""
    instance: str | None = None
