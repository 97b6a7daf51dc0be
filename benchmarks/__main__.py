"""`python -m benchmarks`: list the benchmarks, run some or all of them, write the page."""

import argparse
import subprocess
import sys

from benchmarks import page, suite


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("list", help="name the benchmarks")
    run = commands.add_parser("run", help="run benchmarks, one after the other")
    run.add_argument("names", nargs="*", metavar="NAME", help="none: all of them")
    run.add_argument("--quick", action="store_true", help="short runs that save nothing")
    commands.add_parser("page", help="write docs/benchmarks.md and its plots from benchmarks/results")
    arguments = parser.parse_args()
    if arguments.command == "run":
        run_all(arguments.names or suite.names(), quick=arguments.quick)
    elif arguments.command == "page":
        for file in page.write():
            print(file.relative_to(suite.ROOT))
    else:
        for name in suite.names():
            print(f"{name:<14}{suite.benchmark(name).TITLE}")


def run_all(names: list[str], quick: bool) -> None:
    """Each in turn, in a process of its own, with its defaults; all are run, whatever fails."""
    failed = []
    for name in names:
        print(f"\n## {suite.benchmark(name).TITLE}\n", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{name}", *(["--quick"] if quick else [])]
        if subprocess.run(command, cwd=suite.ROOT, check=False).returncode:
            failed.append(name)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
