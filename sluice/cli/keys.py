"""`sluice keys`."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from sluice.cli.options import AsJson, Url, apply_group_options, client
from sluice.cli.plain import say

if TYPE_CHECKING:
    from sluice.api.keys import ApiKey, IssuedKey

__all__ = ["keys"]

HELP = """Make, list, rotate and revoke API keys. Needs an admin's key in SLUICE_API_KEY.

    sluice keys create website --tenant acme --action query --collection "docs-*"

    sluice keys rotate k2f9x0q7m1ab --grace 1h
"""

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

keys = typer.Typer(help=HELP, invoke_without_command=True)

KeyId = Annotated[str, typer.Argument(metavar="KEY", help="The id of a key.")]


@keys.callback()
def _keys(ctx: typer.Context, url: Url = None, as_json: AsJson = False) -> None:
    if apply_group_options(ctx, url=url, as_json=as_json):
        list_keys(url=url, as_json=as_json)


@keys.command("list")
def list_keys(url: Url = None, as_json: AsJson = False) -> None:
    """List all keys, revoked and expired ones too."""
    from sluice.cli.output import print_json

    with client(url) as sluice:
        found = sluice.keys()
    print_json(found) if as_json else _table(found)


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its owner or purpose.")],
    action: Annotated[
        list[str],
        typer.Option("--action", "-a", help="query, read, write, jobs, system, metrics or admin; may be repeated."),
    ],
    tenant: Annotated[str, typer.Option(help="The tenant that the key belongs to.")] = "default",
    collection: Annotated[
        list[str], typer.Option("--collection", "-c", help="Only these collections; * and ? are wildcards.")
    ] = ["*"],  # noqa: B006  (typer's way)
    principal: Annotated[
        list[str] | None,
        typer.Option(
            "--principal", help="Who it looks at documents as: user:NAME, group:NAME, or * for every document."
        ),
    ] = None,
    expires: Annotated[str | None, typer.Option(metavar="TIME", help="Lifetime: 12h, 90d.")] = None,
    requests: Annotated[int | None, typer.Option(metavar="N", help="Requests a minute, at each gateway.")] = None,
    tokens: Annotated[int | None, typer.Option(metavar="N", help="Tokens a minute, at each gateway.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Make a key. Its secret goes to standard output, this once.

    sluice keys create website --tenant acme --action query
    """
    with client(url) as sluice:
        issued = sluice.create_key(
            name,
            action,
            tenant=tenant,
            collections=collection,
            principals=principal or (),
            expires_in=None if expires is None else _seconds(expires, "--expires"),
            requests_per_minute=requests,
            tokens_per_minute=tokens,
        )
    _show(issued, as_json)


@keys.command("rotate")
def rotate_key(
    key: KeyId,
    grace: Annotated[str, typer.Option(metavar="TIME", help="How long the old secret stays valid: 0s, 1h, 7d.")] = "1h",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Give a key a new secret, which goes to standard output, this once."""
    with client(url) as sluice:
        issued = sluice.rotate_key(key, grace_seconds=_seconds(grace, "--grace"))
    _show(issued, as_json)


@keys.command("revoke")
def revoke_key(key: KeyId, url: Url = None, as_json: AsJson = False) -> None:
    """End a key for good, within a second."""
    from sluice.cli.output import print_json

    with client(url) as sluice:
        revoked = sluice.revoke_key(key)
    print_json(revoked) if as_json else say(f"Key {revoked.id} ({revoked.name}) lets nobody in any more.")


def _seconds(text: str, option: str) -> float:
    match = re.fullmatch(r"(\d+)([smhd])", text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is no time such as 30s, 15m, 12h or 90d", param_hint=option)
    return float(int(match[1]) * UNITS[match[2]])


def _show(issued: "IssuedKey", as_json: bool) -> None:
    """The secret alone on standard output, so that a script can take it; the rest is for a person."""
    from rich.markup import escape

    from sluice.cli.output import errors, print_json

    if as_json:
        print_json(issued)
        return
    key = issued.key
    about = f"Key {key.id} ({key.name}) of tenant {key.tenant}: {', '.join(key.actions)}. Not shown again:"
    errors().print(escape(about), soft_wrap=True)
    say(issued.secret)


def _table(found: "Iterable[ApiKey]") -> None:
    from sluice.cli.output import ago, moment, print_table

    rows = [
        (
            key.id,
            key.name,
            key.tenant,
            key.state,
            ",".join(key.actions),
            ",".join(key.collections),
            moment(key.expires_at) or "never",
            ago(key.created_at),
        )
        for key in found
    ]
    columns = ("key", "name", "tenant", "state", "allows", "collections", "expires", "made")
    print_table(columns, rows, empty="There are no keys.")
