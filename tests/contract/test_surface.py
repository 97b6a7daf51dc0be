"""What users rely on stays as it is: see `tests.contract`."""

import json
from pathlib import Path

from tests.contract.structure import differences
from tests.contract.surface import surface

STORED = Path(__file__).parents[1] / "data" / "surface.json"


def test_nothing_that_users_rely_on_has_changed() -> None:
    now = json.loads(json.dumps(surface()))

    found = list(differences(json.loads(STORED.read_text()), now))

    assert not found, "\n".join(found)
