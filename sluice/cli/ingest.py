"""`sluice ingest`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sluice.cli.options import AsJson, Url

if TYPE_CHECKING:
    from sluice.cli.files import Picked

__all__ = ["ingest"]


def ingest(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", exists=True, help="Files and folders.")],
    collection: Annotated[str, typer.Option("--collection", "-c", help="Created if missing.")] = "default",
    prune: Annotated[
        bool, typer.Option("--prune", help="Delete documents of the given folders whose files are gone.")
    ] = False,
    metadata: Annotated[
        list[str] | None,
        typer.Option("--metadata", "-m", metavar="KEY=VALUE", help="Metadata of every document."),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            "--allow", metavar="WHO", help="Who may see them: user:NAME, group:NAME or public; may be repeated."
        ),
    ] = None,
    include: Annotated[list[str] | None, typer.Option(metavar="GLOB", help="Only matching files.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(metavar="GLOB", help="Skip matching files and folders.")] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until everything is indexed.")] = True,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Add files and folders to a collection; what has not changed is skipped.

    A document is named by its path from the folder that holds PATH: `docs` gives `docs/a.md`. Exit status 1 if a
    document failed. `.sluice-permissions.yaml` in a folder says who may see its files; `--allow` is for all others.
    """
    import asyncio

    from sluice.cli.ingest_report import Screen
    from sluice.cli.ingestion import Plan, run

    plan = Plan(
        collection=collection,
        files=tuple(_pick(paths, include or [], exclude or [], allow)),
        folders=tuple(path for path in paths if path.is_dir()),
        metadata=_parse_metadata(metadata or []),
        prune=prune,
        wait=wait,
    )
    outcome = asyncio.run(run(plan, url, Screen(as_json=as_json)))
    raise typer.Exit(1 if outcome.failed else 0)


def _pick(paths: list[Path], include: list[str], exclude: list[str], allow: list[str] | None) -> "list[Picked]":
    from sluice.cli.file_names import spelled
    from sluice.cli.files import NameClashError, pick
    from sluice.cli.permission_files import PermissionFileError

    try:
        return pick(paths, include, exclude, allow)
    except (NameClashError, PermissionFileError) as error:
        raise typer.BadParameter(str(error), param_hint="PATH") from None
    except OSError as error:
        raise typer.BadParameter(f"{spelled(str(error.filename))}: {error.strerror}", param_hint="PATH") from None


def _parse_metadata(pairs: list[str]) -> dict[str, Any]:
    """Values that are JSON numbers or booleans become such; all else is text."""
    values: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not key or not equals:
            raise typer.BadParameter(f"{pair!r} is not KEY=VALUE", param_hint="--metadata")
        values[key] = _value(text)
    return values


def _value(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float) else text
