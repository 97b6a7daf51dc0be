"""Checksums that are not those of an archive's files: the problem says how they differ."""

import pytest

from services.gateway.http.tar import check_sums
from shared.contracts.problems import Problem

FILES = {"config.json": "a" * 64, "model.safetensors": "b" * 64}


@pytest.mark.parametrize(
    ("sums", "how"),
    [
        (FILES | {".gitattributes": "c" * 64}, "they name '.gitattributes', which is not among the files"),
        ({"config.json": "a" * 64}, "they do not name 'model.safetensors'"),
        (FILES | {"config.json": "c" * 64}, "'config.json' has other bytes"),
    ],
)
def test_the_first_difference_is_named_with_its_kind(sums: dict[str, str], how: str) -> None:
    with pytest.raises(Problem, match=how):
        check_sums(sums, FILES)


def test_the_checksums_of_the_files_pass() -> None:
    check_sums(dict(FILES), FILES)
