"""The contract: what users touch cannot change unnoticed.

`tests/data/surface.json` holds the surface of Sluice as it was agreed: the HTTP API, the command line, environment
variables, metrics, the broker's topology and permissions, messages and records, problems, and the Python client.
`test_surface.py` compares it with the surface of the code and names each item that was removed, changed or added.

    python -m tests.contract          write the surface of the code to tests/data/surface.json
    python -m tests.contract --diff   only show how it differs from what is written there

An internal change never writes the file: where the test fails, the change is wrong. Write it anew for a new feature,
after a look at the differences: additions are fine, and a removal or a change needs the rules of docs/compatibility.md
and of a release that says so. Where product code moves, only the imports at the top of `surface.py` follow.
"""

import argparse
import sys

from tests.contract.files import current, write, written
from tests.contract.structure import differences


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.contract", description="Write the surface of the code.")
    parser.add_argument("--diff", action="store_true", help="only show the differences")
    now = current()
    now.pop("unlisted")
    if parser.parse_args().diff:
        found = list(differences(written(), now))
        sys.stdout.writelines(f"{line}\n" for line in found)
        sys.exit(bool(found))
    write(now)


if __name__ == "__main__":
    main()
