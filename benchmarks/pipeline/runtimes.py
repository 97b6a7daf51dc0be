"""Which contenders there are, and which of them are installed."""

from collections.abc import Sequence

from benchmarks import suite
from benchmarks.pipeline.contenders import Contender, Sluice
from benchmarks.pipeline.peers import RayServe, RayServeDefault, WiredAiohttp, WiredHttpx

__all__ = ["CONTENDERS", "available"]

CONTENDERS: dict[str, type[Contender]] = {
    each.name: each for each in (Sluice, RayServe, RayServeDefault, WiredHttpx, WiredAiohttp)
}


def available(only: Sequence[str] | None) -> list[str]:
    """Those asked for, or all; without those whose environment is not installed, and says so."""
    wanted = [name for name in CONTENDERS if not only or name in only]
    if any(CONTENDERS[name].peer for name in wanted) and suite.peers_python() is None:
        wanted = [name for name in wanted if not CONTENDERS[name].peer]
    if not wanted:
        raise SystemExit("none of these contenders is installed")
    return wanted
