"""`sluice releases`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sluice.cli.options import AsJson, Url, Wait, client
from sluice.cli.plain import say

if TYPE_CHECKING:
    from sluice.api.jobs import Job
    from sluice.api.releases import Lineage, Release
    from sluice.client import Client

__all__ = ["releases"]

HELP = """What answers collections: make, promote, take back and trace releases.

    sluice releases create docs --description "trained on October's feedback"

    sluice releases promote r-0123456789ab

    sluice releases rollback docs
"""

releases = typer.Typer(help=HELP, no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="RELEASE", help="A release's name, or COLLECTION@ALIAS.")]
Keep = Annotated[int, typer.Option(min=0, max=20, help="Earlier versions to keep for a rollback.")]
Force = Annotated[bool, typer.Option(help="Go on although index and records of the collection do not agree.")]
Reason = Annotated[str, typer.Option(help="Why; it is noted with the change.")]


class ReleaseFormat(StrEnum):
    """What a release is written as."""

    TAR = "tar"
    OCI = "oci"
    OCI_ARCHIVE = "oci-archive"


@releases.command("list")
def list_releases(
    collection: Annotated[str | None, typer.Argument(help="Only those of this collection.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List releases, the newest first."""
    from sluice.cli.output import ago, print_json, print_table

    with client(url) as sluice:
        found = sluice.releases(collection)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            one.name,
            one.content.collection,
            one.content.version,
            one.stage,
            ", ".join(one.aliases),
            one.content.embedding_model or "-",
            one.description[:40],
            ago(one.created_at),
        )
        for one in found
    ]
    columns = ("release", "collection", "version", "stage", "aliases", "embedded by", "description", "created")
    print_table(columns, rows, empty="There are no releases. Make one with: sluice releases create COLLECTION")


@releases.command("show")
def show_release(name: Name, url: Url = None, as_json: AsJson = False) -> None:
    """Look at a release: what it says, where it stands and who changed that."""
    from sluice.cli.output import ago, print_json, print_table

    with client(url) as sluice:
        found = sluice.release(name)
    if as_json:
        print_json(found)
        return
    content = found.content
    options = content.retrieval.model_dump(exclude_none=True)
    generators = [f"{one.variant} {one.model} {one.weight:.0%}" for one in content.generators]
    said = {
        "release": found.name,
        "hash": found.hash,
        "stage": found.stage,
        "aliases": ", ".join(found.aliases),
        "collection": f"{content.collection}, version {content.version}",
        "chunks": f"{content.chunk_tokens or 'usual'} tokens, {content.chunk_overlap or 'usual'} shared",
        "embedded by": content.embedding_model or content.embedding_variant,
        "reranked by": content.rerank_model,
        "answered with": content.adapter,
        "candidates": content.rerank_candidates or "",
        "searched by": ", ".join(f"{key} {value}" for key, value in options.items()),
        "pipeline": content.pipeline or "default",
        "stages": " > ".join(str(stop.get("stage")) for stop in content.stops),
        "templates": ", ".join(content.templates),
        "generators": ", ".join(generators),
        "imported from": found.imported_from,
        "signed by": _signers(found),
        "made by": found.by,
        "description": found.description,
    }
    for label, value in said.items():
        if value:
            say(f"{label + ':':<15}{value}")
    rows = [(event.stage, ago(event.at), event.by, event.reason, event.job) for event in found.events]
    print_table(("stage", "since", "by", "reason", "job"), rows, empty="Nothing has happened to it.")


@releases.command("create")
def create_release(
    collection: Annotated[str, typer.Argument(help="The collection's name.")],
    version: Annotated[str | None, typer.Option(help="A version of it; the live one by default.")] = None,
    description: Annotated[str, typer.Option(help="What is new, and why.")] = "",
    evaluation: Annotated[
        list[str] | None, typer.Option(metavar="JOB", help="A job that has measured it; may be repeated.")
    ] = None,
    templates: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of prompt templates (*.jinja).", file_okay=False, exists=True),
    ] = None,
    alias: Annotated[str | None, typer.Option(help="An alias for it.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Make a release of a version of a collection: all that decides how it answers, immutable."""
    from sluice.cli.output import print_json

    texts = {file.name: file.read_text("utf-8") for file in sorted(templates.glob("*.jinja"))} if templates else {}
    with client(url) as sluice:
        made = sluice.create_release(
            collection, version=version, description=description, evaluations=evaluation or [], templates=texts
        )
        if alias:
            made = sluice.set_release_alias(made.name, alias)
    print_json(made) if as_json else say(f"Release {made.name} of {collection}: {made.stage}")


@releases.command("promote")
def promote(
    name: Name,
    reason: Reason = "",
    keep: Keep = 1,
    force: Force = False,
    wait: Wait = True,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Make a release live: its index, models, options and pipeline. Questions go on being answered."""
    with client(url) as sluice:
        job = sluice.promote_release(name, keep=keep, force=force, reason=reason)
        _finish(sluice, job, wait=wait, as_json=as_json)


@releases.command("rollback")
def rollback(
    collection: Annotated[str, typer.Argument(help="The collection's name.")],
    reason: Reason = "",
    keep: Keep = 1,
    force: Force = False,
    wait: Wait = True,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Go back to the release of a collection that was live before."""
    with client(url) as sluice:
        job = sluice.rollback_release(collection, keep=keep, force=force, reason=reason)
        _finish(sluice, job, wait=wait, as_json=as_json)


@releases.command("alias")
def alias_release(
    name: Name,
    alias: Annotated[str, typer.Argument(help="The alias, such as champion.")],
    remove: Annotated[bool, typer.Option("--remove", help="Take it away.")] = False,
    url: Url = None,
) -> None:
    """Have COLLECTION@ALIAS mean a release."""
    with client(url) as sluice:
        if remove:
            sluice.remove_release_alias(name, alias)
            say(f"{name} is not called {alias}.")
            return
        found = sluice.set_release_alias(name, alias)
    say(f"{found.content.collection}@{alias} is {found.name}.")


@releases.command("delete")
def delete_release(name: Name, url: Url = None) -> None:
    """Delete a release that is not live. Its version of the collection stays."""
    with client(url) as sluice:
        sluice.delete_release(name)
    say(f"There is no {name} any more.")


@releases.command("lineage")
def lineage(
    name: Annotated[
        str | None, typer.Argument(metavar="[RELEASE]", help="A release's name, or COLLECTION@ALIAS.")
    ] = None,
    answer: Annotated[str | None, typer.Option(help="The id of an answer that is kept, instead of a release.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Trace a release, or an answer, back to its models, their training and the data they were trained on."""
    from sluice.cli.output import print_json

    if (name is None) == (answer is None):
        raise typer.BadParameter("name a release, or an answer with --answer")
    with client(url) as sluice:
        found = sluice.answer_lineage(answer) if answer is not None else sluice.release_lineage(name or "")
    if as_json:
        print_json(found)
        return
    for depth, text in _steps(found):
        say(f"{'  ' * depth}{text}")


@releases.command("export")
def export_release(
    name: Name,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="PATH", help="What to write; RELEASE.tar or the folder RELEASE."),
    ] = None,
    form: Annotated[ReleaseFormat, typer.Option("--format", help="What to write it as.")] = ReleaseFormat.TAR,
    sign: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="KEY.pem",
            help="Sign it with this key (Ed25519, ECDSA P-256); may be repeated.",
            dir_okay=False,
        ),
    ] = None,
    url: Url = None,
) -> None:
    """Write a release to disk: its settings, templates and models with checksums, without the index.

    `tar` is an archive that `sha256sum --check` can check. `oci` is a folder with an OCI image layout, `oci-archive`
    a tar of one, for the tools of container registries:

        sluice releases export r-0123456789ab --format oci -o release

        skopeo copy oci:release:r-0123456789ab docker://registry.example.com/answers:r-0123456789ab

    The same release is always the same bytes. With --sign it has a signature, which a gateway with SLUICE_RELEASE_KEYS
    asks for:

        openssl genpkey -algorithm ed25519 -out key.pem && openssl pkey -in key.pem -pubout

        sluice releases export r-0123456789ab --sign key.pem
    """
    from sluice.cli.output import file_size
    from sluice.cli.signing import SigningKey

    stem = name.replace("@", "-")
    path = output or Path(stem if form is ReleaseFormat.OCI else f"{stem}.tar")
    keys = [SigningKey(key) for key in sign or ()]
    with client(url) as sluice:
        # An alias may mean another release by the time of the download.
        named = sluice.release(name).name if keys else name
        statement = sluice.release_statement(named) if keys else b""
        signatures = [key.signature(statement) for key in keys]
        try:
            size = sluice.save_release(named, path, format=form.value, signatures=signatures)
        except FileExistsError as error:
            raise typer.BadParameter(str(error), param_hint="--output") from None
    say(f"{path}: {file_size(size)}")


@releases.command("import")
def import_release(
    archive: Annotated[
        Path, typer.Argument(metavar="PATH", help="What `export` wrote, or a copy from a registry.", exists=True)
    ],
    collection: Annotated[str, typer.Option(help="The collection to index with its settings.")],
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Store a release's models, index a collection with its settings beside the live version, and release that.

    The archive or folder is read whatever its format, and refused where a checksum does not fit, or where the gateway
    asks for a signature and there is none of its keys. The new release is a candidate: `promote` makes it live.
    """
    from sluice.cli.follow import follow
    from sluice.cli.job_report import report
    from sluice.cli.output import print_json

    with client(url) as sluice:
        found = sluice.import_release(archive)
        content = found.content
        said = {
            "chunk_tokens": content.chunk_tokens,
            "chunk_overlap": content.chunk_overlap,
            "embedding_model": content.embedding_model,
            "rerank_model": content.rerank_model,
            **({"adapter": content.adapter} if content.adapter else {}),
            "retrieval": content.retrieval.model_dump(exclude_none=True),
        }
        spec = {
            "kind": "reindex",
            "collection": collection,
            "switch": False,
            **{key: value for key, value in said.items() if value is not None},
        }
        job = follow(sluice, sluice.submit_job(spec).id, quiet=as_json)
        if job.state != "succeeded":
            report(job, as_json=as_json)
            return
        made = sluice.create_release(
            collection,
            version=str(job.outputs["version"]),
            description=f"Imported from {found.name}",
            templates=content.templates,
            imported_from=found.name,
        )
    signed = f", signed by {_signers(made)}" if made.signed_by else ""
    print_json(made) if as_json else say(f"Release {made.name} of {collection}: {made.stage}{signed}")


def _signers(release: "Release") -> str:
    return ", ".join(f"{one.name} ({one.key[:16]})" for one in release.signed_by)


def _finish(sluice: "Client", job: "Job", *, wait: bool, as_json: bool) -> None:
    from sluice.cli.follow import follow
    from sluice.cli.job_report import report
    from sluice.cli.output import print_json

    if wait:
        report(follow(sluice, job.id, quiet=as_json), as_json=as_json)
    elif as_json:
        print_json(job)
    else:
        say(f"Job {job.id} is {job.state}; follow it with: sluice jobs follow {job.id}")


def _steps(found: "Lineage") -> list[tuple[int, str]]:
    """One line for each step back, with its depth."""
    lines = [(0, f"answer {found.answer}, trace {found.trace_id or '-'}")] if found.answer else []
    lines.append((len(lines), f"collection {found.collection}, version {found.version or '-'}"))
    if (release := found.release) is not None:
        lines.append(
            (1, f"release {release.name} ({release.stage}), made by {release.by or '-'}: {release.description}")
        )
    for one in found.evaluations:
        figures = ", ".join(f"{key} {value}" for key, value in list(one.metrics.items())[:6])
        lines.append((2, f"evaluation {one.job}: {figures}"))
    for origin in found.models:
        lines.append((2, f"{origin.kind} {origin.name}, from {origin.base or '-'}"))
        if origin.job:
            lines.append((3, f"trained by job {origin.job}"))
        if origin.dataset.job or origin.dataset.hash:
            lines.append((4, f"data set {origin.dataset.job or '-'}, hash {origin.dataset.hash or '-'}"))
            lines += [(5, f"{key}: {_short(value)}") for key, value in origin.dataset.manifest.items() if key != "hash"]
    if not found.models:
        lines.append((2, "the embedder's own model"))
    return lines


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
