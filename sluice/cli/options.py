"""Options that commands share, and the clients that they configure."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sluice.client import AsyncClient, Client

__all__ = [
    "AsJson",
    "Base",
    "Data",
    "DatasetName",
    "ReportPath",
    "Target",
    "Url",
    "Wait",
    "apply_group_options",
    "async_client",
    "client",
    "pairs",
    "user_name",
]

Url = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="Sluice's address [env: SLUICE_URL; default: http://127.0.0.1:8080]"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Data = Annotated[str, typer.Option("--data", metavar="DIR", help="The folder that holds everything.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the job to its end.")]
ReportPath = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="PATH", help="Where to write the report, as HTML.")
]

# Of commands that train models.
DatasetName = Annotated[
    str, typer.Argument(metavar="DATASET", help="The job that made the data set, or an upload with such files.")
]
Target = Annotated[str, typer.Option("--target", "-t", help="embedder, reranker or adapter.")]
Base = Annotated[str, typer.Option(help="The model to begin with, such as m-0123456789ab; by default the bundled one.")]


def client(url: str | None, *, timeout: float = 30.0) -> "Client":
    from sluice.client import Client

    return Client(url, timeout=timeout)


def async_client(url: str | None) -> "AsyncClient":
    from sluice.client import AsyncClient

    return AsyncClient(url)


def apply_group_options(ctx: typer.Context, **given: object) -> bool:
    """Make a group's options the defaults of its subcommand. Returns whether the group was called without one."""
    if ctx.invoked_subcommand is not None:
        ctx.default_map = {ctx.invoked_subcommand: {name: value for name, value in given.items() if value is not None}}
    return ctx.invoked_subcommand is None


def pairs(texts: list[str], option: str) -> dict[str, str]:
    """Parse KEY=VALUE arguments. Raises `typer.BadParameter` for any other form."""
    found = [text.partition("=") for text in texts]
    for key, equals, value in found:
        if not key or not equals:
            raise typer.BadParameter(f"{key + equals + value!r} is not KEY=VALUE", param_hint=option)
    return {key: value for key, _, value in found}


def user_name() -> str:
    """The name of the user at this terminal, for the record of a change; empty if it is unknown."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""
