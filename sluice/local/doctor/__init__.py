"""What could be wrong with a Sluice on this machine, and what to do about it."""

from collections.abc import Iterator

from sluice.local.doctor.finding import Finding, Place, Verdict

__all__ = ["Finding", "Place", "Verdict", "examine"]


def examine(place: Place) -> Iterator[Finding]:
    """Every check in turn; never raises, needs nothing to run, and takes seconds at worst."""
    from sluice.local.doctor import machine, running

    yield from machine.checks(place)
    yield from running.checks(place)
