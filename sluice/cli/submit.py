"""Reading a job from a file, and submitting it; what the server finds wrong is shown with its place in the file."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer

from sluice.cli.options import client
from sluice.cli.plain import say
from sluice.cli.yaml_files import YamlFile, YamlFileError, read_scalar, read_yaml
from sluice.client.errors import SluiceError

__all__ = ["Wanted", "explained", "read_any", "read_job", "read_pipeline", "submit"]

SETTINGS = ("priority", "labels", "retry", "timeout")
UNKNOWN = "Extra inputs are not permitted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A job to submit, and the file that describes it."""

    file: YamlFile
    spec: dict[str, Any]
    settings: dict[str, Any]

    def settle(self, *, labels: dict[str, str], **settings: Any) -> "Wanted":
        """The same job with what was said besides the file."""
        given = {name: value for name, value in settings.items() if value is not None}
        merged = {**self.settings, **given, "labels": {**self.settings.get("labels", {}), **labels}}
        return replace(self, settings=merged)


def read_job(path: Path) -> Wanted:
    """A spec, or a mapping of `spec` and settings. Ends with a message and exit status 2 for what is none."""
    file = _read(path)
    body = _mapping(file, file.value, "")
    if "spec" not in body:
        if "kind" not in body:
            raise _refused(file, "", "a job has a `kind`, such as reindex or batch")
        return Wanted(file=file, spec=body, settings={})
    for name in body:
        if name not in (*SETTINGS, "spec"):
            raise _refused(file, name, f"'{name}' is not known; beside `spec` there are {', '.join(SETTINGS)}")
    spec = _mapping(file, body["spec"], "spec")
    return Wanted(file=file, spec=spec, settings={name: body[name] for name in SETTINGS if name in body})


def read_pipeline(path: Path, parameters: dict[str, str]) -> Wanted:
    """A pipeline, with some of its parameters replaced. Each keeps the type that it has in the file."""
    file = _read(path)
    spec = _mapping(file, file.value, "")
    if "steps" not in spec:
        raise _refused(file, "", "a pipeline has `steps`")
    spec = {"kind": "pipeline", "name": path.stem if path.stem != "pipeline" else path.resolve().parent.name, **spec}
    known = _mapping(file, spec.get("parameters", {}), "parameters")
    given = {name: _parameter(name, text, known) for name, text in parameters.items()}
    return Wanted(file=file, spec=spec | {"parameters": known | given}, settings={})


def read_any(path: Path, parameters: dict[str, str]) -> Wanted:
    """A job or a pipeline."""
    value = _read(path).value
    return read_pipeline(path, parameters) if isinstance(value, dict) and "steps" in value else read_job(path)


def submit(wanted: Wanted, url: str | None, *, key: str | None, wait: bool, as_json: bool) -> None:
    """Submit a job and say so, or follow it to its end."""
    from sluice.cli.follow import follow
    from sluice.cli.job_report import report
    from sluice.cli.output import print_json

    with client(url) as sluice:
        with explained(wanted):
            job = sluice.submit_job(wanted.spec, idempotency_key=key, **wanted.settings)
        if wait:
            job = follow(sluice, job.id, quiet=as_json)
    if wait:
        report(job, as_json=as_json)
    elif as_json:
        print_json(job)
    else:
        say(f"Job {job.id} is {job.state}; follow it with: sluice jobs follow {job.id}")


@contextmanager
def explained(wanted: Wanted) -> Iterator[None]:
    """Show what the server finds wrong with a file as `file:line:column: what`, and end with exit status 1."""
    try:
        yield
    except SluiceError as error:
        faults = (error.problem.model_extra or {}).get("errors") if error.status == 422 else None
        if not faults:
            raise
        _point(wanted, faults)
        raise typer.Exit(1) from None


def _point(wanted: Wanted, faults: list[dict[str, str]]) -> None:
    from rich.markup import escape

    from sluice.cli.output import errors

    for fault in sorted(faults, key=lambda fault: wanted.file.position(fault["path"])):
        place, message = fault["path"], fault["message"]
        if place == "spec" and "kind" in wanted.spec:  # none of the models of the specs could be chosen
            known = message.partition("expected tags: ")[2].replace("'", "")
            place, message = "spec.kind", f"there is no kind {wanted.spec['kind']!r}; the kinds are {known}"
        if message == UNKNOWN:
            message = "there is no such member"
        where = wanted.file.at(place) or (wanted.file.name if place.startswith("spec") else "")
        # The server also names the member of the union of all specs.
        named = place.removeprefix("spec.").removeprefix(f"{wanted.spec.get('kind')}.")
        prefix = f"{escape(where)}: " if where else ""
        errors().print(f"{prefix}[bold red]{escape(named)}[/]: {escape(message)}", soft_wrap=True)


def _read(path: Path) -> YamlFile:
    try:
        return read_yaml(path)
    except YamlFileError as error:
        raise _wrong(str(error)) from None


def _mapping(file: YamlFile, value: Any, place: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return dict(value)
    raise _refused(file, place, "write members here: `name: value`")


def _refused(file: YamlFile, place: str, message: str) -> typer.Exit:
    return _wrong(f"{file.at(place) or file.name}: {message}")


def _wrong(message: str) -> typer.Exit:
    """On one line, as compilers and the server's own findings come, so that editors can jump to the place."""
    say(message, err=True)
    return typer.Exit(2)


def _parameter(name: str, text: str, known: dict[str, Any]) -> Any:
    hint = "--parameter"
    if name not in known:
        message = f"there is no parameter '{name}'; there are: {', '.join(known) or 'none'}"
        raise typer.BadParameter(message, param_hint=hint)
    default, value = known[name], read_scalar(text)
    if isinstance(default, str):
        return text
    number = isinstance(default, int | float) and not isinstance(default, bool)
    fits = (
        default is None
        or (number and isinstance(value, int | float) and not isinstance(value, bool))
        or (not number and type(value) is type(default))
    )
    if not fits:
        raise typer.BadParameter(f"{name}: {text!r} is not of the type of {default!r}", param_hint=hint)
    return value
