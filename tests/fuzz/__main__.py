"""`python -m tests.fuzz [NAME...] [--minutes M] [--seed S]`: the fuzz tests for as long as is asked for.

Each test gets the same share of the time, in rounds of 100 examples. What is found is printed with its smallest example
and with the command that plays its round again; keep it as an `@example` of the test once it is understood.
"""

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


class Plugin:
    """Leaves only the fuzz tests of the chosen names, and shares the time out among them."""

    def __init__(self, names: list[str], seconds: float) -> None:
        self._names = names
        self._seconds = seconds

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Function]) -> None:
        from tests.fuzz import hypothesis_runner

        chosen = [item for item in items if hasattr(item.obj, "hypothesis") and self._is_chosen(item.nodeid)]
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen
        hypothesis_runner.seconds_each = self._seconds / max(1, len(chosen))

    def _is_chosen(self, node: str) -> bool:
        return not self._names or any(name in node for name in self._names)


def report(seed: int) -> str:
    """A line for each test, and then what was found."""
    from tests.fuzz.hypothesis_runner import tallies

    lines, found = [f"{'examples':>9} {'rounds':>6} {'slowest':>8}  test"], []
    for name, tally in tallies.items():
        lines.append(f"{tally.examples:9,} {tally.rounds:6} {tally.slowest:6.2f} s  {name}")
        shares = [f"{outcome} {100 * count / tally.examples:.0f} %" for outcome, count in tally.outcomes.most_common(8)]
        lines.append(f"{'':27}{', '.join(shares)}")
        for finding in tally.findings:
            again = f"make fuzz FUZZ='{name} --round {tally.rounds}' SEED={seed}"
            found.append(f"FOUND by {name}\n{finding}\nagain: {again}\n")
    total = sum(tally.examples for tally in tallies.values())
    return "\n".join([*lines, "", *found, f"{total:,} examples, {len(found)} findings, seed {seed}"])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="parts of the names of modules or tests; all if none")
    parser.add_argument("--minutes", type=float, default=3.0, help="for all tests together (default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other examples (default: 0)")
    parser.add_argument("--round", type=int, help="play only this round of each test again")
    arguments = parser.parse_args()
    os.environ |= {"SLUICE_FUZZ": "long", "SLUICE_FUZZ_SEED": str(arguments.seed)}
    if arguments.round is not None:
        os.environ["SLUICE_FUZZ_ROUND"] = str(arguments.round)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was found by then is told
    plugin: Any = Plugin(arguments.names, arguments.minutes * 60)
    options = ["--quiet", "--tb=no", "--show-capture=no", "--timeout=0", "-r", "N", "--import-mode=importlib"]
    code = pytest.main([*options, str(HERE)], plugins=[plugin])
    print(report(arguments.seed))
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
