"""`python -m services.trainer`: the program of one training. The scheduler starts it."""

import os
import sys

__all__ = ["main"]


def main() -> int:
    from services.trainer.launch import torchrun

    command = torchrun(os.environ)
    if command is not None:
        os.execv(sys.executable, command)  # noqa: S606  (torchrun in the place of this process)
    from services.trainer.app import main as train

    return train()


if __name__ == "__main__":
    sys.exit(main())
