"""Notebooks, executed by a kernel of their own."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode

__all__ = ["Executed", "cells", "execute"]


class Executed:
    """A notebook with its outputs."""

    def __init__(self, notebook: NotebookNode) -> None:
        self._cells = [cell for cell in notebook.cells if cell.cell_type == "code"]

    def shown(self, code: str, kind: str = "text/html") -> str:
        """What the one cell that contains this code has shown, all outputs of that kind together."""
        (cell,) = (cell for cell in self._cells if code in cell.source)
        return "\n".join(_contents(cell, kind))

    def printed(self, code: str) -> str:
        (cell,) = (cell for cell in self._cells if code in cell.source)
        return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def execute(notebook: NotebookNode, *, cwd: Path, **env: str) -> Executed:
    """Run all cells. An error in one is raised. The kernel speaks over sockets in a folder, so it takes no ports."""
    folder = Path(tempfile.mkdtemp(prefix="kernel-"))
    try:
        kernel: Any = AsyncKernelManager(transport="ipc", ip=str(folder / "k"), connection_file=str(folder / "k.json"))
        settings = {**os.environ, "IPYTHONDIR": str(folder / "ipython"), "PYTHONDONTWRITEBYTECODE": "1", **env}
        client = NotebookClient(notebook, km=kernel, timeout=200, resources={"metadata": {"path": str(cwd)}})
        return Executed(client.execute(env=settings, cleanup_kc=True))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def cells(*sources: str) -> NotebookNode:
    """A notebook of these cells."""
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])


def _contents(cell: NotebookNode, kind: str) -> Iterator[str]:
    for output in cell.outputs:
        if kind in output.get("data", {}):
            yield output.data[kind]
