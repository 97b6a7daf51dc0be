"""`sluice backup` and `sluice restore`."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from sluice.cli.options import AsJson, Data

__all__ = ["backup", "restore"]

Place = Annotated[str, typer.Argument(metavar="PLACE", help="A folder, or an object store: s3://bucket/prefix.")]
Name = Annotated[
    str | None, typer.Option(help="The backup's name, as `--list` shows it; without one the newest that is whole.")
]

DATA = ".sluice"


def backup(
    place: Place,
    data: Data = DATA,
    keep: Annotated[
        int | None, typer.Option(min=1, metavar="NUMBER", help="Then remove all backups there but the newest so many.")
    ] = None,
    index: Annotated[bool, typer.Option(help="Whether the index is in it; without, it has to be made anew.")] = True,
    check: Annotated[bool, typer.Option("--check", help="Make none: read one and say whether it is whole.")] = False,
    shown: Annotated[bool, typer.Option("--list", help="Make none: list those that are there.")] = False,
    name: Name = None,
    as_json: AsJson = False,
) -> None:
    """Back up everything that Sluice keeps, while it runs.

    The Sluice is the one that runs on the data folder, or the broker that SLUICE_NATS_URL names. A backup holds all
    documents and hashes of API keys: whoever can read it can read them.

        sluice backup /mnt/backups --keep 7
    """
    if shown and check:
        raise typer.BadParameter("choose one of --list and --check")
    if shown:
        _print(_run(["list", _absolute(place)], {}), _listed, as_json)
    elif check:
        _print(_run(["check", *_named(name), _absolute(place)], {}), _checked, as_json)
    else:
        options = [*(["--keep", str(keep)] if keep else []), *([] if index else ["--without-index"])]
        _print(_run(["create", *options, _absolute(place)], _running_broker(data)), _made, as_json)


def restore(
    place: Place,
    data: Data = DATA,
    name: Name = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Remove what is there; without, there must be none.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Restore a backup into a data folder, or into the broker that SLUICE_NATS_URL names and the index.

    No service may run meanwhile. The whole backup is read and checked before anything changes. A restore that was
    interrupted is run again with the same command.

        sluice down && sluice restore /mnt/backups --replace && sluice up
    """
    import os

    from sluice.local.backup import broker_alone, broker_settings

    arguments = ["restore", *_named(name), *(["--replace"] if replace else []), _absolute(place)]
    folder = Path(data).absolute()
    if os.environ.get("SLUICE_NATS_URL"):
        found = _run(arguments, broker_settings(folder))
    else:
        with _refusing(folder), broker_alone(folder) as broker:
            found = _run(arguments, broker)
    _print(found, _restored, as_json)
    if found["damaged"]:
        raise typer.Exit(1)


def _running_broker(data: str) -> dict[str, str]:
    from sluice.local.backup import NotRunningError, broker_settings

    folder = Path(data).absolute()
    try:
        return broker_settings(folder)
    except NotRunningError:
        raise _refusal(
            f"no Sluice runs on {folder}; start it with `sluice up`, or set SLUICE_NATS_URL for another broker"
        ) from None


def _refusing(folder: Path) -> Any:
    from contextlib import contextmanager

    from sluice.local.backup import BrokerFailedError, RunningError
    from sluice.local.broker import BrokerMissingError
    from sluice.local.format import FormatError
    from sluice.local.state import FolderInUseError
    from sluice.local.storage import DiskFullError

    @contextmanager
    def refusing() -> Any:
        try:
            yield
        except (RunningError, FolderInUseError):
            raise _refusal(f"a Sluice runs on {folder}; stop it first with `sluice down --data {folder}`") from None
        except (BrokerFailedError, BrokerMissingError, DiskFullError, FormatError) as error:
            raise _refusal(str(error)) from None
        except OSError as error:
            raise _refusal(f"cannot use {folder} for the data: {error.strerror or error}") from None

    return refusing()


def _run(arguments: list[str], broker: dict[str, str]) -> dict[str, Any]:
    from sluice.local.backup import run_program

    status, output = run_program(arguments, broker)
    if status:
        raise typer.Exit(status if status in (1, 2) else 1)
    found: dict[str, Any] = json.loads(output)
    return found


def _print(found: dict[str, Any], in_words: Any, as_json: bool) -> None:
    from sluice.cli.output import console, print_json

    if as_json:
        print_json(found)
        return
    for line in in_words(found):
        console().print(line, soft_wrap=True, markup=False)


def _made(found: dict[str, Any]) -> list[str]:
    lines = [f"Backup {found['name']} is whole: {_content(found)}."]
    lines.append(f"Changes of the index waited for {found['paused_seconds']:.1f} s.")
    return [*lines, *(f"Removed the backup {name}." for name in found["removed"])]


def _checked(found: dict[str, Any]) -> list[str]:
    made = datetime.fromtimestamp(found["created_at"], UTC).astimezone()
    return [
        f"Backup {found['name']} of {made:%Y-%m-%d %H:%M:%S}, Sluice {found['product']}: {_content(found)}.",
        "It is whole.",
    ]


def _listed(found: dict[str, Any]) -> list[str]:
    whole = [str(name) for name in found["backups"]]
    return [*whole, *(f"{name} (interrupted)" for name in found["interrupted"])] or ["There is none."]


def _restored(found: dict[str, Any]) -> list[str]:
    from sluice.cli.output import counted

    counts = [
        (found["collections"], "collection"),
        (found["documents"], "document"),
        (found["jobs"], "job to run again"),
    ]
    lines = [f"Restored {found['name']}: {_content(found)}."]
    lines.append(", ".join(counted(number, noun) for number, noun in counts[:2]) + ".")
    if found["jobs"]:
        lines.append(f"{found['jobs']:,} jobs that had not ended were put back on their queue.")
    damaged = "The records and the index of {} do not agree: see docs/operations.md, Damaged collections."
    return [*lines, *map(damaged.format, found["damaged"])]


def _content(found: dict[str, Any]) -> str:
    from sluice.cli.output import counted, file_size

    parts = (
        counted(found["streams"], "stream"),
        counted(found["tables"], "table"),
        counted(found["passages"], "passage"),
    )
    return f"{', '.join(parts)}, {file_size(found['bytes'])}"


def _named(name: str | None) -> list[str]:
    return ["--name", name] if name else []


def _absolute(place: str) -> str:
    return place if "://" in place else str(Path(place).absolute())


def _refusal(message: str) -> typer.Exit:
    from rich.markup import escape

    from sluice.cli.output import errors

    errors().print(f"[bold red]{escape(message)}[/]", soft_wrap=True)
    return typer.Exit(1)
