"""Changes of passwords and certificates that no service notices: what is new is known everywhere before it counts.

Each change takes three steps, and after each of them everything is brought to the cluster:

    rotate   there is a second one. Services show it where the first is refused; the first is still in force.
    switch   the second is in force, and the first is now the one before. Switch again to go back.
    retire   the one before is forgotten.

Replicas read their files and nodes their configuration at different times. In each step what one of them still knows
from the step before is enough for all the others.
"""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

from shared.security.certificates import Authority
from shared.security.passwords import new_password, passwords_in

__all__ = ["AUTHORITY", "CERTIFICATE", "retire", "rotate", "switch", "write_secret"]

AUTHORITY: Final = "authority"
"""Stands for who vouches for the broker's certificate."""

CERTIFICATE: Final = "certificate"
"""Stands for the broker's certificate, from the same authority; it is changed in one step."""


def rotate(out: Path, name: str, *, people: Collection[str] = ()) -> None:
    """The first step. The password of one of these `people`, whom no service is, is replaced at once."""
    if name == CERTIFICATE:
        (out / "tls.crt").unlink(missing_ok=True)
    elif name == AUTHORITY:
        Authority(out).rotate()
    else:
        path, known = _passwords(out, name)
        _write_passwords(path, [new_password()] if name in people else [known[0], new_password()])


def switch(out: Path, name: str) -> None:
    """The second step. Raises ValueError where the first was not taken."""
    if name == AUTHORITY:
        Authority(out).switch()
        (out / "tls.crt").unlink(missing_ok=True)
        return
    path, known = _passwords(out, name)
    if len(known) < 2:
        raise ValueError(f"{name} has one password only: rotate it first")
    _write_passwords(path, reversed(known[:2]))


def retire(out: Path, name: str) -> None:
    """The third step."""
    if name == AUTHORITY:
        Authority(out).retire()
        return
    path, known = _passwords(out, name)
    _write_passwords(path, known[:1])


def write_secret(path: Path, text: str) -> None:
    """Write a file in a folder that keeps everybody else out."""
    # Readable for the users that containers run as.
    path.write_text(text)
    path.chmod(0o644)


def _passwords(out: Path, name: str) -> tuple[Path, list[str]]:
    path = out / f"{name}.password"
    try:
        return path, passwords_in(path.read_text())
    except FileNotFoundError:
        raise ValueError(f"there is no user '{name}' in {out}, see docs/broker.md") from None


def _write_passwords(path: Path, passwords: Iterable[str]) -> None:
    write_secret(path, "\n".join(passwords))
