"""Whether this process is the kernel of a notebook."""

import sys

__all__ = ["in_notebook"]


def in_notebook() -> bool:
    """True where a cell runs. IPython is not imported to find out: a kernel has it already."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None
