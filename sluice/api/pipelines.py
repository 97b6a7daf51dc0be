"""What the HTTP API says of pipelines, as typed, immutable models."""

from typing import Any

from sluice.api.base import Schema

__all__ = ["Pipeline"]


class Pipeline(Schema):
    """`steps` are as in the file of pipelines: names of stages, and objects."""

    name: str
    steps: tuple[Any, ...] = ()
