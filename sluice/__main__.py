"""`python -m sluice` is `sluice`."""

from sluice.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
