"""Adapters of the store of models: fetched, checked against the engine's model, and given to the engine."""

import json
import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

import anyio
from anyio import to_thread
from nats.errors import Error as NatsError

from shared.contracts.models import MODEL_NAME, AdapterBase, ModelKind
from shared.contracts.problems import Problem, ProblemType
from shared.stores.base_models import ADAPTER_CONFIG, ADAPTER_WEIGHTS, fingerprint, read_base
from shared.stores.model_folder import ModelFolder

__all__ = ["AdapterEngine", "AdapterFiles", "StoredAdapters", "adapter_folders"]

DEFAULT_TENANT: Final = "default"
KNOWN: Final = 1000
"""Adapters whose folders are remembered."""

MAX_CONFIG: Final = 2**20


@runtime_checkable
class AdapterEngine(Protocol):
    """An engine that can be given adapters while it runs."""

    @property
    def adapter_rank(self) -> int:
        """The highest rank of an adapter that may be added; 0 where none may."""

    async def add_adapter(self, name: str, folder: Path) -> None:
        """Have an adapter ready under a name; one that is there already is replaced. Raises Problem
        MODEL_UNAVAILABLE."""


class StoredAdapters:
    """The adapters that queries name. They are of the query's tenant: other tenants have no such adapter."""

    def __init__(self, engine: object, files: "AdapterFiles") -> None:
        self._engine = engine
        self._files = files
        self._folders: OrderedDict[str, Path] = OrderedDict()
        self._lock = anyio.Lock()

    async def ready(self, tenant: str, name: str) -> str:
        """Have an adapter in the engine; returns what it is called there.

        Raises Problem MODEL_NOT_FOUND, MODEL_UNAVAILABLE, and BROKER_UNAVAILABLE.
        """
        engine = self._engine
        if not isinstance(engine, AdapterEngine) or engine.adapter_rank == 0:
            raise _unavailable(
                name,
                "This generator takes no adapters: it needs the engine vllm, with SLUICE_VLLM_STORED_ADAPTERS above 0.",
            )
        key = f"{tenant}/{name}"
        async with self._lock:
            folder = self._folders.get(key)
            if folder is None or not await to_thread.run_sync(folder.is_dir):
                folder = await self._files.fetch(tenant, name, most_rank=engine.adapter_rank)
                await engine.add_adapter(key, folder)
                self._folders[key] = folder
            self._folders.move_to_end(key)
            if len(self._folders) > KNOWN:
                self._folders.popitem(last=False)
        return key


class AdapterFiles:
    """Folders of adapters that fit one language model: a folder, or a name on the Hugging Face hub."""

    def __init__(self, folder: ModelFolder, model: str) -> None:
        self._folder = folder
        self._model = model
        self._fingerprint = ""

    async def fetch(self, tenant: str, name: str, *, most_rank: int | None = None) -> Path:
        """Raises Problem MODEL_NOT_FOUND, MODEL_UNAVAILABLE for one that does not fit, and BROKER_UNAVAILABLE."""
        try:
            model, folder = await self._folder.fetch(tenant, name)
            if model.kind is not ModelKind.ADAPTER:
                raise _unavailable(name, f"It is of the kind '{model.kind}', and not an adapter.")
            await to_thread.run_sync(_check, name, folder, most_rank)
            await self._check_base(name, await to_thread.run_sync(read_base, folder))
        except (NatsError, TimeoutError) as error:
            detail = f"The broker did not give the adapter '{name}': {error!r}"
            raise Problem(ProblemType.BROKER_UNAVAILABLE, detail) from error
        except OSError as error:
            raise _unavailable(name, str(error)) from error
        except Problem as problem:
            if problem.kind is not ProblemType.INVALID_REQUEST:
                raise
            raise _unavailable(name, problem.detail) from problem
        return folder

    async def _check_base(self, name: str, base: AdapterBase | None) -> None:
        if base is None:
            return
        if not self._fingerprint:
            self._fingerprint = await to_thread.run_sync(_fingerprint_of, self._model)
        if base.fingerprint != self._fingerprint:
            raise _unavailable(
                name,
                f"It was trained for the model '{base.name}' ({base.fingerprint[:12]}…), and this generator runs "
                f"'{Path(self._model).name}' ({self._fingerprint[:12]}…).",
            )


async def adapter_folders(named: Mapping[str, str], files: AdapterFiles) -> dict[str, str]:
    """The folders of adapters by name. One that is named `m-…`, or `tenant/m-…`, is fetched from the store.

    Raises as `AdapterFiles.fetch`.
    """
    found = {}
    for name, place in named.items():
        tenant, _, model = place.rpartition("/")
        stored = re.fullmatch(MODEL_NAME, model) and "/" not in tenant and not tenant.startswith(".")
        found[name] = str(await files.fetch(tenant or DEFAULT_TENANT, model)) if stored else place
    return found


def _fingerprint_of(model: str) -> str:
    """Raises Problem INVALID_REQUEST, and OSError where the model is not on this machine."""
    folder = Path(model)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(model, local_files_only=True))
    return fingerprint(folder)


def _check(name: str, folder: Path, most_rank: int | None) -> None:
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise _unavailable(name, f"It has no '{ADAPTER_WEIGHTS}'.")
    try:
        with (folder / ADAPTER_CONFIG).open("rb") as file:
            config = json.loads(file.read(MAX_CONFIG))
        rank, kind = int(config["r"]), str(config.get("peft_type"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _unavailable(name, f"Its '{ADAPTER_CONFIG}' cannot be read: {error!r}") from None
    if kind != "LORA":
        raise _unavailable(name, f"It is of PEFT's type {kind[:40]}, and not LORA.")
    if most_rank is not None and rank > most_rank:
        raise _unavailable(
            name, f"Its rank is {rank}, and this generator takes up to {most_rank}: raise SLUICE_VLLM_LORA_RANK."
        )


def _unavailable(name: str, reason: str) -> Problem:
    return Problem(ProblemType.MODEL_UNAVAILABLE, f"The adapter '{name}' cannot be loaded. {reason}")
