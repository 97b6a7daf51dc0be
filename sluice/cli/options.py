"""The options that every command has, and the client that they lead to."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sluice.client import AsyncClient, Client

__all__ = ["AsJson", "Data", "Url", "async_client", "client", "hand_down", "me", "pairs"]

Url = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="Sluice's address [env: SLUICE_URL; default: http://127.0.0.1:8080]"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Data = Annotated[str, typer.Option("--data", metavar="DIR", help="The folder that holds everything.")]


def client(url: str | None, *, timeout: float = 30.0) -> "Client":
    from sluice.client import Client

    return Client(url, timeout=timeout)


def async_client(url: str | None) -> "AsyncClient":
    from sluice.client import AsyncClient

    return AsyncClient(url)


def hand_down(ctx: typer.Context, **given: object) -> bool:
    """Let a group's options hold for its subcommand; True where there is none and the group acts itself."""
    if ctx.invoked_subcommand is not None:
        ctx.default_map = {ctx.invoked_subcommand: {name: value for name, value in given.items() if value is not None}}
    return ctx.invoked_subcommand is None


def pairs(texts: list[str], option: str) -> dict[str, str]:
    """What was given as KEY=VALUE."""
    found = [text.partition("=") for text in texts]
    for key, equals, value in found:
        if not key or not equals:
            raise typer.BadParameter(f"{key + equals + value!r} is not KEY=VALUE", param_hint=option)
    return {key: value for key, _, value in found}


def me() -> str:
    """Who runs this, to be shown with what he changes."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""
