"""`python -m services.retriever.backup create|restore|check|list PLACE`."""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from typing import Any

from nats.errors import Error as NatsError
from pydantic import ValidationError
from pydantic_settings import SettingsError

from services.retriever.backup.buckets import open_place
from services.retriever.backup.catalog import Catalog
from services.retriever.backup.create import create_backup, say
from services.retriever.backup.errors import BackupError
from services.retriever.backup.manifest import Manifest
from services.retriever.backup.restore import RestoreRun
from services.retriever.backup.settings import BackupSettings

__all__ = ["main", "parser"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. What it has done is one JSON object on standard output; progress and failures are lines on
    standard error. Returns the exit status: 0, or 1 for a failure."""
    options = parser().parse_args(arguments)
    try:
        done = asyncio.run(_run(options))
    except (ValidationError, SettingsError) as error:
        say(f"the settings cannot be used: {error}")
        return 1
    except BackupError as error:
        say(str(error))
        return 1
    except (NatsError, TimeoutError) as error:
        say(f"the broker failed: {error!r}")
        return 1
    sys.stdout.write(json.dumps(done) + "\n")
    return 0


async def _run(options: argparse.Namespace) -> dict[str, Any]:
    settings, catalog = BackupSettings(), Catalog(open_place(options.place))
    match options.command:
        case "create":
            manifest = await create_backup(settings, catalog, has_index=not options.without_index)
            removed = await catalog.prune(options.keep) if options.keep else []
            return _facts(manifest) | {"paused_seconds": round(manifest.paused_seconds, 2), "removed": removed}
        case "restore":
            run = RestoreRun(settings, catalog, await catalog.open(options.name), options.replace, say)
            restored = await run()
            counts = {"collections": restored.collections, "documents": restored.documents, "jobs": restored.jobs}
            return _facts(restored.manifest) | counts | {"damaged": list(restored.damaged)}
        case "check":
            manifest = await catalog.open(options.name)
            await catalog.verify(manifest, say)
            return _facts(manifest)
    return {"backups": await catalog.whole(), "interrupted": await catalog.interrupted()}


def _facts(manifest: Manifest) -> dict[str, Any]:
    return {
        "name": manifest.name,
        "product": manifest.product,
        "created_at": manifest.created_at,
        "bytes": manifest.size,
        "streams": len(manifest.streams),
        "messages": sum(stream.messages for stream in manifest.streams),
        "tables": len(manifest.tables),
        "passages": sum(table.rows for table in manifest.tables),
    }


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = argparse.ArgumentParser(prog="python -m services.retriever.backup", description=__doc__)
    commands = made.add_subparsers(dest="command", required=True)
    create = commands.add_parser("create", help="make a backup")
    create.add_argument("--keep", type=_positive, help="then remove all backups but the newest so many")
    create.add_argument("--without-index", action="store_true", help="leave the index out; it can be made anew")
    restore = commands.add_parser("restore", help="restore a backup")
    restore.add_argument("--replace", action="store_true", help="remove what is there")
    check = commands.add_parser("check", help="read a backup and say whether it is whole")
    shown = commands.add_parser("list", help="list the backups of a place")
    for command in (restore, check):
        command.add_argument("--name", help="the backup's name; without it the newest that is whole")
    for command in (create, restore, check, shown):
        command.add_argument("place", help="a folder, or s3://bucket/prefix")
    return made


def _positive(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError("a number of at least 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
